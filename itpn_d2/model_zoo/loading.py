"""Variants with weights: options that the arguments leave open are taken from the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..backbone import create_model, get_variant
from ..checkpoint import load_pretrained, load_state_file, local_path
from ..checkpoint.architecture import Architecture, architecture
from ..checkpoint.key_maps import to_native
from ..checkpoint.loading import load_contents
from ..checkpoint.state import unwrap
from ..errors import CheckpointError
from .registry import pretrained_weights
from .weights_files import PREFIX

# a variant's own: where a file has others, it is of another variant, and the load says so
_SIZES = {"channels", "depths", "num_heads", "mlp_ratio", "stage_mlp_ratio"}


def pretrained_address(variant: str) -> str:
    """The address of the pre-training of a variant.

    Raises:
        UnknownModelError: see :func:`.pretrained_weights`.
    """
    return PREFIX + pretrained_weights(variant).file


def create_loaded(
    name: str,
    pyramid: bool,
    num_classes: int | None,
    weights: bool | str | Path,
    overrides: Mapping[str, Any],
) -> nn.Module:
    """See :func:`itpn_d2.create_model`; ``weights`` is not None here.

    Raises:
        CheckpointError: the file can't be read, or its weights do not fit.
    """
    get_variant(name)  # before anything is fetched for it
    source = pretrained_address(name) if weights is True else str(weights)
    content = load_state_file(local_path(source))
    try:
        found = architecture(to_native(unwrap(content)).state)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    arguments: dict[str, Any] = {"pyramid": pyramid, "num_classes": num_classes}
    arguments |= _said_by_file(found, name, arguments)
    model = create_model(name, **{**arguments, **overrides})
    load_contents(model, content, source)
    return model


def _said_by_file(found: Architecture, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of :func:`itpn_d2.backbone.create_model` that the file has and the caller left open."""
    if found.family != get_variant(name).family:
        return {}
    said = {key: value for key, value in found.options().items() if key not in _SIZES}
    if asked["pyramid"]:
        del said["final_norm"]  # the pyramid decides
        return {**said, **found.pyramid_options()}
    head = found.classifier_options()
    if asked["num_classes"] is not None:
        del said["final_norm"]  # the pooling decides
        head["num_classes"] = asked["num_classes"]
    return {**said, **head}


def load_weights(model: nn.Module, weights: str | Path) -> None:
    """See :func:`itpn_d2.models.load_weights`."""
    load_pretrained(model, weights)
