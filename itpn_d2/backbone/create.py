"""One call that builds any registered variant."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from ..lazy.options import Option, hands_on, nearest, options_of
from .classifier import TrunkClassifier
from .integral import IntegralBackbone
from .pyramid import IntegralPyramid
from .variants import get_variant

_BUILT_HERE = {"trunk", "pyramid", "num_classes"}


def _overrides(given: Mapping[str, Any]) -> dict[str, Option]:
    """The arguments of the parts of a variant, all of which a config may override."""
    parts: list[type[nn.Module]] = [get_variant(given.get("name", "")).trunk_class]
    if given.get("pyramid"):
        parts += [IntegralPyramid, IntegralBackbone]
    elif "num_classes" in given:
        parts.append(TrunkClassifier)
    found: dict[str, Option] = {}
    for part in parts:
        found = {**options_of(part, {}).named, **found}
    if given.get("pyramid"):
        found["pyramid_mlp_ratio"] = options_of(IntegralPyramid, {}).named["mlp_ratio"]
    return {name: option for name, option in found.items() if name not in _BUILT_HERE}


@hands_on(_overrides)
def create_model(
    name: str, pyramid: bool = False, num_classes: int | None = None, **overrides: Any
) -> nn.Module:
    """Build a variant as trunk (default), as Detectron2 backbone (``pyramid=True``) or as classifier
    (``num_classes``).

    Overrides go to the part that has a parameter of that name: the trunk (``drop_path``, ``pos_grid``,
    ``channels``, ...), the pyramid (``fpn_dim``, ``fpn_depth``, ``pyramid_mlp_ratio``, ``concat_trunk``,
    ...), the backbone (``freeze_at``, ``out_features``, ...) or the classifier (``pooling``, ``head_std``,
    ...); ``norm_eps`` goes to all.

    Raises:
        KeyError: unknown name. TypeError: an override that no part takes. ValueError: pyramid and num_classes
        together.
    """
    if pyramid and num_classes is not None:
        raise ValueError("choose pyramid=True (backbone) or num_classes=... (classifier), not both")
    variant, options = get_variant(name), dict(overrides)

    def take(cls: type) -> dict[str, Any]:
        known = set(inspect.signature(cls).parameters) - _BUILT_HERE
        shared = ("norm_eps", "channels")
        return {k: options[k] if k in shared else options.pop(k) for k in list(options) if k in known}

    pooling = options.get("pooling", "mean_then_norm")
    if "pyramid_mlp_ratio" in options and not pyramid:
        raise TypeError("pyramid_mlp_ratio needs pyramid=True")
    pyramid_ratio = {"mlp_ratio": options.pop("pyramid_mlp_ratio")} if "pyramid_mlp_ratio" in options else {}
    trunk_args = take(variant.trunk_class)
    if num_classes is not None:
        trunk_args.setdefault("final_norm", pooling == "norm_then_mean")
    trunk = variant.trunk(**trunk_args)
    model: nn.Module = trunk
    if pyramid:
        from .backbone import ITPNBackbone  # the only part that needs Detectron2

        neck = variant.pyramid(**{**take(IntegralPyramid), **pyramid_ratio})
        model = ITPNBackbone(trunk, neck, **take(ITPNBackbone))
    elif num_classes is not None:
        model = TrunkClassifier(trunk, num_classes, **take(TrunkClassifier))
    unknown = set(options) - {"norm_eps", "channels"}
    if unknown:
        hints = (f"{key} ({nearest(key, _overrides({'name': name, 'pyramid': pyramid}))})" for key in unknown)
        raise TypeError(f"create_model({name!r}): unknown override {', '.join(sorted(hints))}")
    # by which a published model is described; it is no part of the module's state
    kind = {"pyramid": True} if pyramid else {} if num_classes is None else {"num_classes": num_classes}
    vars(model)["arguments"] = {"name": name, **kind, **overrides}
    return model
