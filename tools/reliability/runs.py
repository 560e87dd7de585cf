"""The small training and the small pre-training that are killed, stopped and fed with broken files."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from itpn_d2.checkpoint import load_state_file
from itpn_d2.engine import Run, load_config
from pretrain.run import PretrainRun

ROOT = Path(__file__).resolve().parents[2]
MICRO = [
    "model.backbone.channels=[8,16,32]",
    "model.backbone.depths=[1,1,1]",
    "model.backbone.num_heads=2",
]
ENGINE = [
    "train.device=cpu",
    "train.amp.dtype=fp32",
    "train.log_period=1",
    "train.checkpointer.max_to_keep=2",
]
CONFIGS = {
    "training": ROOT / "configs" / "Quickstart" / "faster_rcnn_fast_itpn_nano.py",
    "pre-training": ROOT / "configs" / "Quickstart" / "pixel_mim_fast_itpn_nano.py",
}
_SETTINGS = {
    "training": [
        *MICRO,
        "dataset.train.num_images=6",
        "dataset.val.num_images=2",
        "dataset.train.size=64",
        "dataset.val.size=64",
        "dataloader.image.test_short_side=64",
        "dataloader.image.short_sides=[64]",
        "dataloader.train.total_batch_size=2",
        "dataloader.test.num_workers=0",
        "train.validation_loss=False",
        "train.visualize.period=0",
        "train.best_metric=",
        "train.checkpointer.period=1",
    ],
    "pre-training": [
        *MICRO,
        "model.backbone.pos_grid=[4,4]",
        "model.decoder_dim=32",
        "model.decoder_heads=2",
        "dataloader.train.view.size=64",
        "dataset.train.num_images=8",
        "dataset.train.size=64",
        "dataloader.train.total_batch_size=4",
        "train.checkpointer.epochs=1",
        "train.visualize.epochs=0",
    ],
}
# iterations, or epochs of two iterations
_LENGTH = {"training": "train.max_iter={}", "pre-training": "train.epochs={}"}


def settings(kind: str, folder: Path, length: int, *more: str) -> list[str]:
    """The overrides of a small run of ``length`` iterations or epochs into ``folder``."""
    root = f"dataset.train.root={folder.parent / 'scenes'}"
    own = [root, f"train.output_dir={folder}", _LENGTH[kind].format(length)]
    if kind == "training":
        own.append(f"dataset.val.root={folder.parent / 'scenes'}")
        own += ["train.eval_period=0", "train.ema.enabled=True"]
    return [*_SETTINGS[kind], *ENGINE, "dataloader.train.num_workers=0", *own, *more]


def call(kind: str, folder: Path, length: int, resume: bool, *more: str) -> Callable[[], Any]:
    """A small run, to be called in a process of its own."""

    def run() -> None:
        cfg = load_config(str(CONFIGS[kind]), settings(kind, folder, length, *more))
        (Run if kind == "training" else PretrainRun)(cfg).train(resume=resume)

    return run


def command(kind: str, folder: Path, length: int, flags: list[str], *more: str) -> list[str]:
    """The same as a command line."""
    program = [str(ROOT / "train_net.py")] if kind == "training" else ["-m", "pretrain"]
    options = settings(kind, folder, length, *more)
    return [sys.executable, *program, "--config-file", str(CONFIGS[kind]), *flags, *options]


def checkpoints(folder: Path) -> list[Path]:
    """All checkpoints of a run, oldest first."""
    return sorted(folder.glob("model_*.pth"))


def same_weights(one: Path, other: Path) -> bool:
    """Whether two checkpoints hold the same model, moving average and moments, bit for bit."""
    a, b = (load_state_file(path) for path in (one, other))
    return _same({k: a[k] for k in ("model", "trainer")}, {k: b[k] for k in ("model", "trainer")})


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return a == b
