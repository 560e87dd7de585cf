"""What a run starts from: the weights that its config names, or those that come with the package."""

import logging
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from torch import nn

from ..backbone.adapt import adapt
from ..boxed import PREFIX, PRETRAINED, boxed_weights
from ..checkpoint import load_state_file

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
    """The first tensor of the file that has no place in the trunk, or of the trunk's blocks that the file
    lacks; '' where there is none."""
    own = {f"trunk.{key}": value for key, value in trunk.state_dict().items()}
    state = load_state_file(path)
    file = {key: value for key, value in state.items() if key.startswith("trunk.stage")}
    for key, value in file.items():
        like = own.get(key)
        if like is None or (value.shape != like.shape and adapt(key, value.float(), like) is None):
            shape = "absent" if like is None else tuple(like.shape)
            return f"{key}: {shape} instead of {tuple(value.shape)}"
    more = [key for key in own if key.startswith("trunk.stage") and key not in file]
    return f"{more[0]}: not in it" if more else ""
