"""Pre-training in two processes: the losses and weights of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch

from itpn_d2.checkpoint import load_state_file
from itpn_d2.data.scenes import draw_scene

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TINY = [
    "channels=[8,16,32]",
    "depths=[1,1,2]",
    "num_heads=2",
    "fpn_dim=16",
    "pos_grid=[4,4]",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for number in range(8):
        cv2.imwrite(str(root / f"{number}.png"), draw_scene([5, number], 64)[0])
    return root


SWIN = [
    "dataloader.train.num_workers=0",
    "model.encoder.img_size=64",
    "model.encoder.embed_dim=8",
    "model.encoder.depths=[1,1,1,1]",
    "model.encoder.num_heads=[1,2,4,8]",
    "model.encoder.window_size=2",
    # windows and their tables of relative positions grow with the images
    "train.progressive=[{epoch:0,size:64},{epoch:1,size:128}]",
    "train.ema.enabled=True",
    "optimizer.lr=1e-3",
    "train.base_lr=null",
]


# pixels a side of what is masked at once
BLOCKS = {"fastmim_hog": 16, "fastmim_hog_swin": 32}


def settings_of(method):
    if method == "fastmim_hog_swin":
        return SWIN
    backbone = "model.encoder.backbone" if method == "fastmim_hog" else "model.backbone"
    return [f"{backbone}.{option}" for option in TINY]


def pretrain(method, folder, output, *flags):
    settings = [
        *settings_of(method),
        "model.decoder_dim=32",
        "model.decoder_heads=2",
        f"model.masking={{_target_: checkerboard.Checkerboard, block: {BLOCKS.get(method, 'null')}}}",
        f"dataset.train.root={folder}",
        "dataloader.train.view.size=64",
        "dataloader.train.total_batch_size=4",
        "train.epochs=2",
        "train.visualize.epochs=1",
        "train.checkpointer.epochs=1",
        "train.log_period=1",
        "train.amp.dtype=fp32",
        "train.device=cpu",
        f"train.output_dir={output}",
    ]
    name = f"{method}_base" if method.endswith("swin") else f"{method}_fast_itpn_nano"
    config = ROOT / "configs" / "Pretrain" / f"{name}.py"
    command = [sys.executable, "-m", "pretrain", "--config-file", str(config), *flags, *settings]
    paths = os.pathsep.join([str(HERE), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    losses = [[row[k] for k in sorted(row) if k.startswith(("loss_", "total_loss"))] for row in rows]
    final = load_state_file(output / "model_final.pth")
    return losses, {**final["model"], **final["trainer"].get("average", {})}


@pytest.mark.slow  # tests/engine/test_same_run.py compares the same within one command
@pytest.mark.parametrize("method", ["mfm", "pixel_mim", "fastmim_hog"])
def test_two_processes_pretrain_as_one(method, folder, tmp_path):
    alone, weights = pretrain(method, folder, tmp_path / "one")
    together, same = pretrain(method, folder, tmp_path / "two", "--num-processes", "2")
    assert len(alone) == len(together) == 4
    for a, b in zip(alone, together, strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    assert weights.keys() == same.keys()
    for name, value in weights.items():
        torch.testing.assert_close(value, same[name], rtol=1e-3, atol=1e-5, msg=name)
    written = {p.name for p in (tmp_path / "two").iterdir()}
    assert {"predictions.png", "results.json"} <= written


@pytest.mark.slow
def test_growing_images_of_a_swin_in_two_processes(folder, tmp_path):
    """FastMIM-P: at the second stage the tables are new parameters, whose gradients count too."""
    alone, weights = pretrain("fastmim_hog_swin", folder, tmp_path / "one")
    together, same = pretrain("fastmim_hog_swin", folder, tmp_path / "two", "--num-processes", "2")
    assert len(alone) == len(together) == 4
    for a, b in zip(alone, together, strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    tables = [k for k in weights if k.endswith("relative_position_bias_table")]
    assert len(tables) == 4 and weights[tables[0]].shape == (49, 1)  # windows of 4
    assert weights.keys() == same.keys()
    for name, value in weights.items():
        torch.testing.assert_close(value, same[name], rtol=1e-3, atol=1e-5, msg=name)
