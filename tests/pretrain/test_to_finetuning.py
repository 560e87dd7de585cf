"""Every pre-training config, shrunk, from two steps to what is fine-tuned from it: nothing is missing."""

from functools import partial
from pathlib import Path

import cv2
import pytest
import timm
import torch
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from omegaconf import OmegaConf

from itpn_d2 import create_model
from itpn_d2.backbone import SimplePyramid, TimmBackbone
from itpn_d2.checkpoint import (
    Checkpointer,
    CheckpointError,
    convert,
    create_from_checkpoint,
    load_pretrained,
    load_state_file,
)
from itpn_d2.data.scenes import draw_scene
from itpn_d2.engine import load_config
from pretrain.run import PretrainRun

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs" / "Pretrain").rglob("*.py"))
NAMES = [str(p.relative_to(ROOT / "configs" / "Pretrain"))[:-3] for p in CONFIGS]
TRUNK = {"channels": (8, 16, 32), "depths": (1, 1, 2), "num_heads": 2}
RUN = {
    "epochs": 1,
    "device": "cpu",
    "amp": {"dtype": "fp32"},
    "visualize": {"epochs": 0, "images": 0},
    "keep_freed_memory": False,
}
SWIN = {"embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]}
VIT = {"embed_dim": 32, "depth": 3, "num_heads": 2}
CONVNEXT = {"depths": [1, 1, 2, 1], "dims": [8, 16, 24, 32]}
HEADS = ("head.", "fc_norm.", "norm.")  # what a classifier starts anew


def shrink(cfg, size):
    """The same method over a few channels, at ``size`` pixels."""
    model = cfg.model
    encoder = model.get("encoder")
    if encoder is None or "backbone" in encoder:
        backbone = (encoder or model).backbone
        backbone.update(**TRUNK, fpn_dim=16, pos_grid=(size // 16, size // 16))
        if "drop_path" in backbone:
            backbone.drop_path = 0.0
    elif "Swin" in str(encoder._target_):
        encoder.update(**SWIN, img_size=size, window_size=max(1, size // 32))
    elif "ViT" in str(encoder._target_):
        encoder.update(**VIT, img_size=size)
    else:
        encoder.update(**CONVNEXT)
    for key, value in {
        "decoder_dim": 32,
        "decoder_heads": 2,
        "decoder_depths": [1, 1, 1],
        "aux_depth": 1,
    }.items():
        if key in model:
            model[key] = value
    if "decoder_depth" in model:
        model.decoder_depth = 1
    if model.get("masking") is not None and "num_masked" in model.masking:
        model.masking.num_masked, model.masking.min_block = 4, 2
    if "teacher" in model:
        patch = 14 if "patch14" in model.teacher.name or "L-14" in model.teacher.name else 16
        side = size // 16 * patch
        model.teacher.update(random=True, image_size=side)
        model.teacher.options = {"embed_dim": 16, "depth": 1, "num_heads": 2}
        cfg.dataloader.train.view.teacher_size = side
    if cfg.train.progressive:
        cfg.train.progressive = [{"epoch": 0, "size": size}]
    cfg.dataloader.train.view.size = size
    cfg.dataloader.train.update(total_batch_size=2, num_workers=0)
    cfg.train.update(RUN)
    return cfg


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for number in range(4):
        cv2.imwrite(str(root / f"{number}.png"), draw_scene([5, number], 64)[0])
    return root


@pytest.fixture(scope="module")
def pretrained(folder, tmp_path_factory):
    """Path of a config's ``model_final.pth`` after two steps; shrunk configs that are alike share it."""
    done = {}

    def run(path, **changes):
        cfg = shrink(load_config(str(path)), 64)
        cfg.dataset.train = load_config(str(CONFIGS[0]), [f"dataset.train.root={folder}"]).dataset.train
        cfg.train.update(changes)
        backbone = cfg.model.get("encoder", cfg.model).get("backbone")
        if backbone is not None:  # all sizes of a family are the same now
            backbone.name = f"{backbone.name.rpartition('_')[0]}_nano"
        key = OmegaConf.to_yaml(OmegaConf.create([cfg.model, changes], flags={"allow_objects": True}))
        if key not in done:
            cfg.train.output_dir = str(tmp_path_factory.mktemp("run"))
            run = PretrainRun(cfg)
            assert run.clock.max_iter == 2
            run.train()
            done[key] = Path(cfg.train.output_dir) / "model_final.pth", cfg.model
        return done[key]

    return run


def missing(model, path):
    report = load_pretrained(model, path)
    assert not report.unexpected and not report.mismatched, str(report)
    assert report.loaded
    return report.missing


def backbone_missing(model, path, start):
    return [k for k in missing(model, path) if k.startswith(start)]


def equal(model, prefix, path, source):
    """Whether the tensors below ``prefix`` are those of the file below ``source``, but for tables."""
    state = load_state_file(path)["model"]
    own = model.state_dict()
    pairs = [
        (own[prefix + k[len(source) :]], v) for k, v in state.items() if prefix + k[len(source) :] in own
    ]
    same = [torch.equal(a, b) for a, b in pairs if a.shape == b.shape]
    return len(same) > 5 and all(same)


@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
def test_from_two_steps_to_fine_tuning(path, pretrained, tmp_path):
    file, model = pretrained(path)
    encoder = model.get("encoder")
    if encoder is None or "backbone" in encoder:
        trunk_and_pyramid(file, (encoder or model).backbone)
    elif "Swin" in str(encoder._target_):
        swin(file, tmp_path)
    elif "ViT" in str(encoder._target_):
        vit(file, tmp_path)
    else:
        convnext(file, tmp_path)


def trunk_and_pyramid(file, options):
    options = {k: v for k, v in OmegaConf.to_container(options).items() if not k.startswith("_")}
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    own = ("pos_resample",)
    options = {k: v for k, v in options.items() if k not in own}
    detector = torch.nn.ModuleDict({"backbone": create_model(**options)})
    assert missing(detector, file) == []
    assert all(p.isfinite().all() for p in detector.parameters())
    name = options.pop("name")
    options.pop("pyramid")
    for key in ("fpn_dim", "fpn_depth"):
        options.pop(key, None)
    classifier = create_model(name, num_classes=3, **options)
    report = load_pretrained(classifier, file)
    assert all(k.startswith(HEADS) for k in report.missing)
    assert create_from_checkpoint(file, num_heads=2).pyramid.fpn_dim == 16


def converted(file, folder):
    """Through tools/convert_checkpoint.py's function: timm's names, whole and equal."""
    out = folder / "timm.safetensors"
    report = convert(file, out)
    assert report.written and not [
        k for k in report.written if k.startswith(("encoder.", "decoder", "model."))
    ]
    return out


def fpn(**options):
    bottom_up = TimmBackbone(**options)
    levels = list(bottom_up.output_shape())
    return torch.nn.ModuleDict({"backbone": FPN(bottom_up, levels, 16, top_block=LastLevelMaxPool())})


def swin(file, tmp_path):
    build = partial(timm.create_model, "swin_tiny_patch4_window7_224", **SWIN)
    network = build(img_size=96, num_classes=3)  # larger windows: tables are resampled
    assert all(k.startswith("head.") for k in missing(network, file))
    assert torch.isfinite(network(torch.zeros(1, 3, 96, 96))).all()
    detector = fpn(name="swin_tiny_patch4_window7_224", options=SWIN, level_norms=True)
    assert backbone_missing(detector, file, "backbone.bottom_up.network.") == []
    assert equal(detector, "backbone.bottom_up.network.model.", file, "encoder.backbone.")
    out = converted(file, tmp_path)
    again = build(img_size=64, window_size=2, num_classes=3)
    state = load_state_file(out)
    again.load_state_dict(state, strict=False)
    assert {k for k in again.state_dict() if k not in state} == {"head.fc.weight", "head.fc.bias"}
    assert equal(again, "", file, "encoder.backbone.")


def vit(file, tmp_path):
    network = timm.create_model("vit_tiny_patch16_224", **VIT, img_size=96, num_classes=3)
    assert all(k.startswith("head.") for k in missing(network, file))
    pooled = timm.create_model("vit_tiny_patch16_224", **VIT, global_pool="avg", num_classes=3)
    report = load_pretrained(pooled, file)
    assert {k.split(".")[0] for k in report.missing} == {"fc_norm", "head"}
    net = TimmBackbone("vit_tiny_patch16_224", options=VIT, names=["last_feat"])
    detector = torch.nn.ModuleDict({"backbone": SimplePyramid(net, "last_feat", 16)})
    report = load_pretrained(detector, file)
    assert not [k for k in report.missing if ".net." in k] and "norm.weight" in report.ignored
    assert equal(detector, "backbone.net.network.model.", file, "encoder.backbone.")
    converted(file, tmp_path)


def convnext(file, tmp_path):
    network = timm.create_model("convnext_base", **CONVNEXT, num_classes=3)
    assert all(k.startswith("head.") for k in missing(network, file))
    detector = fpn(name="convnext_base", options=CONVNEXT)
    assert backbone_missing(detector, file, "backbone.bottom_up.network.") == []
    assert equal(detector, "backbone.bottom_up.network.model.", file, "encoder.backbone.model.")
    # and as train_net.py starts from it
    Checkpointer(detector).load(str(file), checkpointables=[])
    out = converted(file, tmp_path)
    again = timm.create_model("convnext_base", **CONVNEXT, num_classes=3)
    assert all(k.startswith("head.") for k in missing(again, out))  # the converted file is known as well


def test_a_partial_encoder_is_taken_and_said(pretrained):
    """FastMIM may leave out the last blocks."""
    path = ROOT / "configs" / "Pretrain" / "fastmim_hog_vit_base.py"
    file, _ = pretrained(path)
    content = load_state_file(file)
    content["model"] = {k: v for k, v in content["model"].items() if "blocks.2." not in k}
    network = timm.create_model("vit_tiny_patch16_224", **VIT, num_classes=3)
    report = load_pretrained(network, content)
    assert all(k.startswith(("blocks.2.", "head.")) for k in report.missing)
    assert "leaves out the last blocks (blocks.2." in str(report)
    del content["model"]["encoder.backbone.blocks.0.norm1.weight"]
    with pytest.raises(CheckpointError, match="another size or kind"):
        load_pretrained(network, content)


NETWORKS = {
    "swin_tiny_patch4_window7_224": SWIN,
    "hiera_tiny_224": {"embed_dim": 16, "stages": [1, 1, 2, 1]},
    "pvt_v2_b0": {"embed_dims": [8, 16, 24, 32], "num_heads": [1, 1, 2, 4]},
    "vit_tiny_patch16_224": VIT,
    "resnet18": {},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_any_network_through_two_image_sizes_into_a_backbone(name, folder, tmp_path):
    """No size is given: networks of a fixed one get that of the images, at both stages."""
    cfg = load_config(
        str(ROOT / "configs" / "Pretrain" / "fastmim_hog_convnext_base.py"),
        [f"dataset.train.root={folder}", f"train.output_dir={tmp_path}", "dataloader.train.num_workers=0"],
    )
    cfg.model.encoder.update(name=name, **NETWORKS[name])
    cfg.model.update(decoder_dim=32, decoder_heads=2, decoder_depth=1)
    cfg.dataloader.train.total_batch_size = 2
    cfg.train.update(
        {**RUN, "epochs": 2, "progressive": [{"epoch": 0, "size": 64}, {"epoch": 1, "size": 128}]}
    )
    cfg.train.ema.enabled = True
    run = PretrainRun(cfg)
    assert run.clock.max_iter == 4
    run.train()
    averaged = run.average.module.state_dict()
    assert all(v.shape == averaged[k].shape for k, v in run.method.state_dict().items())
    file = tmp_path / "model_final.pth"
    backbone = TimmBackbone(name, options=NETWORKS[name])
    assert missing(backbone, file) == []
    report = load_pretrained(backbone, file, prefer_average=True)
    assert not report.missing and report.layout.startswith("FastMIM")
