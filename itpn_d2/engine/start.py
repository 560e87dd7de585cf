"""The weights that a run starts from: those that its config names, or those in the package."""

import logging
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from safetensors import safe_open
from torch import nn

from ..boxed import PREFIX, PRETRAINED, boxed_weights

logger = logging.getLogger(__name__)
AUTO = "auto"


def named_weights(cfg: DictConfig) -> str:
    """The file that ``train.init_checkpoint`` names; '' for none and for
    ``auto``, a start of trainings, which has no heads."""
    given = OmegaConf.select(cfg, "train.init_checkpoint")
    return "" if given in (None, AUTO) else str(given)


def start_weights(cfg: DictConfig, model: nn.Module) -> str:
    """The file that a training starts from, '' for none. ``auto`` is the pre-training in the package of the
    variant that the config builds, where the model's trunk is as in that; the log says what was chosen."""
    if OmegaConf.select(cfg, "train.init_checkpoint") != AUTO:
        return named_weights(cfg)
    name, trunk = _trunk(cfg, model)
    if name not in PRETRAINED or trunk is None:
        logger.info("Training from scratch: the package has no weights for this model")
        return ""
    path = boxed_weights(PREFIX + name)
    reason = _difference(path, trunk)
    if reason:
        logger.info("Training from scratch: the model is not the %s of %s (%s)", name, path, reason)
        return ""
    logger.info(
        "Starting from the package's pre-trained %s; train.init_checkpoint= trains from scratch", name
    )
    return str(path)


def _trunk(cfg: DictConfig, model: nn.Module) -> tuple[str | None, nn.Module | None]:
    """The variant's name and the trunk, of a detector or of a classifier."""
    for place in ("backbone", "network"):
        part = getattr(model, place, None)
        if part is not None and hasattr(part, "trunk"):
            return OmegaConf.select(cfg, f"model.{place}.name"), part.trunk
    return None, None


def _difference(path: Path, trunk: nn.Module) -> str:
    """The first tensor of the blocks that file and trunk do not have alike; '' where there is none. What lies
    around the blocks, positions and input bands, is adapted by the load."""
    own = {f"trunk.{key}": list(value.shape) for key, value in trunk.state_dict().items()}
    with safe_open(path, "pt") as file:
        stored = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
    for key in sorted(own.keys() | stored.keys()):
        if key.startswith("trunk.stage") and own.get(key) != stored.get(key):
            return f"{key}: {own.get(key, 'absent')} instead of {stored.get(key, 'absent')}"
    return ""
