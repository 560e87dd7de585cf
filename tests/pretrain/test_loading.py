"""Official pre-training files start a pre-training whole: backbone, decoder, heads and mask token."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from itpn_d2.checkpoint import CheckpointError
from parity import fastmim as parity_fastmim
from parity import pretraining as parity_pretrain
from pretrain.loading import MethodCheckpointer

FIXTURES = Path(__file__).resolve().parents[1] / "data" / "fixtures"
# what stands for the whole file: tensors of decoder, heads and mask token in our names
NAMES = {
    "fast_itpn_pretrain": ("mask_token", "fusion.embeds.0.weight", "head.weight"),
    "itpn_pixel_mim": ("fill.token", "decoder.blocks.0.attn.qkv.weight", "decoder.heads.0.weight"),
    "itpn_clip_mfm": ("mask_token", "head.weight", "aux_head.bias", "aux_blocks.0.attn.rel_pos.table"),
    "fastmim_vit": ("mask_token", "decoder_blocks.0.attn.qkv.weight", "decoder_pred.weight"),
    "fastmim_swin": ("mask_token", "decoder_embed.weight", "decoder_pred.weight"),
}
FOLLOWS = ("relative_position_index", "attn_mask", "decoder_pos_embed")


def official(name):
    """The file's tensors, and the method they were written for."""
    build = json.loads((FIXTURES / f"{name}.json").read_text())["build"]
    variant, *_ = build["variants"].values()
    case, *_ = variant["cases"]
    tensors = load_file(FIXTURES / f"{name}.safetensors")
    state = {k.removeprefix("weights/"): v for k, v in tensors.items() if k.startswith("weights/")}
    image = (
        tensors[case["image"]]
        if "image" in case
        else next(v for k, v in tensors.items() if k.endswith("image"))
    )
    torch.manual_seed(0)
    if name.startswith("fastmim"):
        return state, parity_fastmim.build_method(build, tuple(image.shape[-2:]))
    grid = image.shape[-2] // 16, image.shape[-1] // 16
    return state, parity_pretrain.build_method(build, variant, grid)


def load(method, state, folder, **beside):
    path = folder / "official.pth"
    torch.save({"model": state, **beside}, path)
    return MethodCheckpointer(method).load_foreign({"model": state, **beside}, str(path))


@pytest.mark.parametrize("name", NAMES)
def test_an_official_file_keeps_decoder_heads_and_mask_token(name, tmp_path):
    state, method = official(name)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    report = load(method, state, tmp_path)
    assert report.missing == [] and report.mismatched == [] and report.unexpected == []
    assert all(k.endswith(FOLLOWS) for k in report.ignored), report.ignored
    after = method.state_dict()
    assert all(not torch.equal(after[k], before[k]) for k in NAMES[name])
    # the same as the map that the parity checks use
    if name.startswith("fastmim"):
        expected = parity_fastmim.fastmim_to_native(state)
    else:
        expected = parity_pretrain.itpn_to_native(state, type(method).__name__)
    assert set(expected) == set(after) and all(torch.equal(after[k], v) for k, v in expected.items())


def test_another_decoder_starts_anew_and_is_said(tmp_path):
    state, method = official("itpn_pixel_mim")
    state = {k: v for k, v in state.items() if not k.startswith("decoder_pred.")}
    state["decoder_norm.weight"] = torch.ones(8)
    report = load(method, state, tmp_path)
    assert report.missing == ["decoder.norm.weight", "decoder.heads.0.weight", "decoder.heads.0.bias"]
    assert report.mismatched[0].startswith("decoder.norm.weight: file (8,)")


def test_a_head_of_an_impossible_shape(tmp_path):
    state, method = official("fast_itpn_pretrain")
    state["mask_token"] = torch.zeros(1, 1, 7)
    with pytest.raises(CheckpointError, match=r"mask_token has the shape \(1, 1, 7\), which no Feature"):
        load(method, state, tmp_path)


def test_a_file_of_another_method_gives_its_backbone(tmp_path):
    """Pixels first, then CLIP: trunk and pyramid go on, the heads are new."""
    state, _ = official("itpn_pixel_mim")
    _, method = official("itpn_pixel_mim")
    plain = {k: v for k, v in state.items() if not k.startswith(("decoder", "mask_token"))}
    report = load(method, plain, tmp_path)
    assert report.missing and not any(k.startswith("backbone.") for k in report.missing)


def test_our_own_file_of_another_size(tmp_path):
    """Stage by stage: a decoder of the same width is kept though the position table has another grid."""
    _, method = official("itpn_pixel_mim")
    state = method.state_dict()
    table = state["backbone.trunk.pos_embed"]
    state["backbone.trunk.pos_embed"] = table.repeat(1, 2, 2, 1)
    report = load(method, state, tmp_path, pretraining={})
    assert report.missing == [] and [r.split(":")[0] for r in report.adapted] == ["backbone.trunk.pos_embed"]


def test_python_m_pretrain_starts_from_an_official_file(tmp_path):
    """The whole way: train.init_checkpoint, one step at a rate of 0, and what is written."""
    import cv2

    from itpn_d2.checkpoint import load_state_file
    from itpn_d2.data.scenes import draw_scene
    from itpn_d2.engine import load_config
    from pretrain.run import PretrainRun

    build = json.loads((FIXTURES / "fastmim_vit.json").read_text())["build"]
    state, _ = official("fastmim_vit")
    torch.save({"model": state, "epoch": 799}, tmp_path / "official.pth")
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), draw_scene([5, number], 64)[0])
    config = Path(__file__).resolve().parents[2] / "configs" / "Pretrain" / "fastmim_hog_vit_base.py"
    decoder = build["decoder"]
    overrides = {
        "model.encoder.embed_dim": build["channels"][0],
        "model.encoder.depth": build["depths"][0],
        "model.encoder.num_heads": build["num_heads"],
        "model.encoder.img_size": 64,
        "model.decoder_dim": decoder["dim"],
        "model.decoder_depth": decoder["depth"],
        "model.decoder_heads": decoder["num_heads"],
        "dataset.train.root": tmp_path,
        "dataloader.train.view.size": 64,
        "dataloader.train.total_batch_size": 2,
        "dataloader.train.num_workers": 0,
        "optimizer.lr": 1e-30,
        "train.base_lr": "null",
        "train.epochs": 1,
        "train.device": "cpu",
        "train.amp.dtype": "fp32",
        "train.visualize.epochs": 0,
        "train.init_checkpoint": tmp_path / "official.pth",
        "train.output_dir": tmp_path / "out",
    }
    PretrainRun(load_config(str(config), [f"{k}={v}" for k, v in overrides.items()])).train()
    found = load_state_file(tmp_path / "out" / "model_final.pth")["model"]
    expected = parity_fastmim.fastmim_to_native(state)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)
