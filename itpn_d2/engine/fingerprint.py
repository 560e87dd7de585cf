"""The settings that a checkpoint stores about its run, and their comparison with those of another run."""

import logging
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..errors import ConfigError
from ..lazy.targets import present_name

logger = logging.getLogger(__name__)
_KEYS = (
    "dataset.train",
    "dataloader.train.total_batch_size",
    "dataloader.train.reference_batch",
    "dataloader.train.reference_rule",
    "dataloader.train.repeat_threshold",
    "optimizer",
    "lr_multiplier",
    "train.max_iter",
    "train.epochs",
    "train.progressive",
    "train.accumulate",
    "train.clip_grad_norm",
    "train.ema",
    "train.amp",
    "train.seed",
)
_CLASSES = ("dataset.class_names", "dataset.semantic_class_names")


class Fingerprint:
    """The settings of a run that decide what it learns; a checkpointable, so that ``--resume`` compares.

    Args:
        cfg: of the run, with the classes that its data have.
        facts: more of them by name, such as the number of images.

    Attributes:
        optional: a checkpoint without one, of an earlier version, can be resumed all the same.
    """

    optional = True

    def __init__(self, cfg: DictConfig, **facts: Any):
        self.settings: dict[str, Any] = dict(facts)
        for key in (*_KEYS, *_CLASSES):
            value = OmegaConf.select(cfg, key)
            if OmegaConf.is_config(value):
                value = OmegaConf.to_container(value, resolve=True)
            self.settings.update(_flat(key, value))

    def state_dict(self) -> dict[str, Any]:
        """The settings by name, as a checkpoint keeps them."""
        return dict(self.settings)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Compare with the run that wrote the checkpoint; differences are logged as warnings.

        Raises:
            ConfigError: the classes differ, so that what was learnt has another meaning.
        """
        for key in _CLASSES:
            before, now = state.get(key), self.settings.get(key)
            if before and now and before != now:
                raise ConfigError(
                    f"--resume: the checkpoint was trained with the classes {before}, but the data has "
                    f"{now}: choose another train.output_dir, and start from train.init_checkpoint=FILE "
                    "there"
                )
        missing = object()
        names = sorted({*state, *self.settings} - set(_CLASSES))
        for name in names:
            before, now = state.get(name, missing), self.settings.get(name, missing)
            if name.endswith("._target_") and isinstance(before, str):
                before = present_name(before)
            if before != now and missing not in (before, now):
                logger.warning("--resume with a changed setting: %s was %s and is now %s", name, before, now)


def _flat(key: str, value: Any) -> dict[str, Any]:
    """Plain values by their full key; lists are texts, targets their names, numbers and texts stay."""
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for name, item in value.items():
            if not (key == "optimizer.params" and name == "model"):
                found.update(_flat(f"{key}.{name}", item))
        return found
    if callable(value):  # as text, a function has its address in this process
        return {key: f"{value.__module__}.{value.__qualname__}"}
    return {key: value if isinstance(value, int | float | str | None) else str(value)}
