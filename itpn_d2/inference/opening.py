"""The model of a command: what its options name, or the detector that comes with the package."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..boxed import DETECTOR, PREFIX, boxed_folder
from ..checkpoint.shared_links import hub_repository
from ..errors import ConfigError
from .predictor import Predictor

logger = logging.getLogger(__name__)


def open_predictor(
    config: str | None, weights: str | None = None, overrides: Sequence[str] = (), **options: Any
) -> Predictor:
    """A predictor.

    Args:
        config: a config file, the name of a zoo entry, a folder of ``save_pretrained``, also
            ``package://NAME``, or a repository of the hub, ``hf://org/name`` or the address of its page;
            None: the detector in the package.
        weights: a file that goes with a config; None: those that the config or the zoo names.
        overrides: ``key=value`` of a config.
        options: further arguments of :class:`Predictor`.

    Raises:
        ConfigError: weights or overrides without a config; else as :class:`Predictor`.
    """
    if config is not None and not _holds_a_model(config):
        return Predictor(config, weights, overrides=overrides, **options)
    if weights is not None or overrides:
        what = "--weights" if weights is not None else "overrides"
        raise ConfigError(
            f"{what}: the model is unknown; give --config-file FILE, the config of its training"
        )
    if config is not None:
        return Predictor.from_pretrained(config, **options)
    address = PREFIX + DETECTOR
    found = Predictor.from_pretrained(address, **options)
    names = ", ".join(found.metadata.get("thing_classes"))
    logger.info(
        "Without --config-file: the package's small detector of %s in microscope images; see %s",
        names,
        boxed_folder(address) / "README.md",
    )
    return found


def _holds_a_model(config: str) -> bool:
    """Whether weights come with the description."""
    return config.startswith(PREFIX) or hub_repository(config) != config or Path(config).is_dir()
