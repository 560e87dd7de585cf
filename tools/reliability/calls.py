"""What a user would do with an input."""

from pathlib import Path
from typing import Any

from itpn_d2 import create_model
from itpn_d2.checkpoint import load_pretrained
from itpn_d2.engine import Run, load_config

from . import runs

_SMALL = [
    *runs.MICRO,
    *runs.ENGINE,
    "dataloader.image.short_sides=[64]",
    "dataloader.image.test_short_side=64",
    "dataloader.image.max_size=64",
    "dataloader.train.total_batch_size=2",
    *(f"dataloader.{part}.num_workers=0" for part in ("train", "test", "val_loss")),
    "train.max_iter=1",
    "train.eval_period=1",
    "train.validation_loss=False",
    "train.best_metric=",
    "train.ema.enabled=False",
    "train.visualize.period=1",
]


def train(config: str, place: Path, more: list[str]) -> None:
    """One iteration, a checkpoint, an evaluation, pictures."""
    path = runs.ROOT / "configs" / "Custom" / f"{config}_fast_itpn_nano.py"
    small = [text for text in _SMALL if config != "semantic_fpn" or "short_sides" not in text]
    cfg = load_config(str(path), [*small, *more, f"train.output_dir={place / 'out'}"])
    Run(cfg).train()


def override(place: Path, text: str) -> None:
    """A small training with one more override."""
    settings = runs.settings("training", place / "out", 1, "dataset.train.num_images=2")
    settings = [s.replace(str(place / "scenes"), str(place.parent / "scenes")) for s in settings]
    Run(load_config(str(runs.CONFIGS["training"]), [*settings, text])).train()


def from_yaml(path: Path, place: Path) -> None:
    """The run of a YAML file, built, not trained."""
    cfg = load_config(str(path), [])
    cfg.train.output_dir, cfg.train.max_iter = str(place / "out"), 1
    Run(cfg)


def load(address: str | Path, model: dict[str, Any]) -> None:
    """Weights into a small backbone."""
    load_pretrained(create_model("fast_itpn_nano", pyramid=True, **model), str(address))
