"""The one call by which programs build a model, with or without weights."""

from pathlib import Path
from typing import Any

from torch import nn

from .backbone import create_model as build
from .errors import ZooError
from .lazy.options import hands_on, options_of


@hands_on(lambda given: options_of(build, given).named)
def create_model(
    name: str,
    pyramid: bool = False,
    num_classes: int | None = None,
    weights: bool | str | Path | None = None,
    **overrides: Any,
) -> nn.Module:
    """A variant as trunk (default), as Detectron2 backbone (``pyramid=True``) or as classifier
    (``num_classes``).

    Args:
        name: of :data:`~itpn_d2.backbone.VARIANTS`.
        weights: None: none, the model is initialised; True: the pre-training that the model zoo lists for the
            variant; else a file, or an address (``itpn://``, ``hf://``, ``gdrive://``, ``https://``). What
            became of each tensor is reported in the log. Options that are not given are taken from the file:
                of the
            pyramid its width and depth (it starts anew where the file has none), of a fine-tuned classifier
            its classes, so that without ``num_classes`` it is a classifier again; of the trunk layer scale,
            relative positions, and the grid of its positions. Weights need Detectron2.
        overrides: see :func:`itpn_d2.backbone.create_model`.

    Raises:
        UnknownModelError: ``weights=True``, but no weights are published. CheckpointError: the file can't be
            fetched or read, or is of another variant. KeyError, TypeError, ValueError: see
            :func:`itpn_d2.backbone.create_model`.
    """
    if weights is None or weights is False:
        return build(name, pyramid, num_classes, **overrides)
    return _zoo(name).create_loaded(name, pyramid, num_classes, weights, overrides)


def load_weights(model: nn.Module, weights: str | Path) -> None:
    """Load a file, or an address of the model zoo, into a model; what fits is reported in the log.

    Raises:
        CheckpointError: see :func:`itpn_d2.checkpoint.load_pretrained`.
    """
    _zoo(type(model).__name__).load_weights(model, weights)


def _zoo(name: str) -> Any:
    """What reads files, which needs Detectron2: building alone does without."""
    try:
        from .model_zoo import loading
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "detectron2":
            raise
        raise ZooError(
            f"{name}: weights are read with Detectron2, which is not installed: run itpn-install-detectron2, "
            f"or build the model without weights"
        ) from error
    return loading
