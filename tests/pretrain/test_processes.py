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
    "image_size=64",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for number in range(8):
        cv2.imwrite(str(root / f"{number}.png"), draw_scene([5, number], 64)[0])
    return root


def pretrain(method, folder, output, *flags):
    backbone = "model.encoder.backbone" if method == "fastmim_hog" else "model.backbone"
    settings = [
        *(f"{backbone}.{option}" for option in TINY),
        "model.decoder_dim=32",
        "model.decoder_heads=2",
        "model.masking={_target_: checkerboard.Checkerboard}",
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
    config = ROOT / "configs" / "Pretrain" / f"{method}_fast_itpn_nano.py"
    command = [sys.executable, "-m", "pretrain", "--config-file", str(config), *flags, *settings]
    paths = os.pathsep.join([str(HERE), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    losses = [[row[k] for k in sorted(row) if k.startswith(("loss_", "total_loss"))] for row in rows]
    return losses, load_state_file(output / "model_final.pth")["model"]


@pytest.mark.parametrize(
    "method", ["mfm", *(pytest.param(m, marks=pytest.mark.slow) for m in ("pixel_mim", "fastmim_hog"))]
)
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
