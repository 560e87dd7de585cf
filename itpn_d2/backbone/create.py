"""One call that builds any registered variant."""

import inspect
from typing import Any

from torch import nn

from .classifier import TrunkClassifier
from .pyramid import IntegralPyramid
from .variants import get_variant


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
        known = set(inspect.signature(cls).parameters) - {"trunk", "pyramid", "num_classes"}
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
        raise TypeError(f"create_model({name!r}): unknown override {', '.join(sorted(unknown))}")
    return model
