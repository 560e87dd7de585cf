"""One call that builds any registered variant."""

import inspect
from typing import Any

from torch import nn

from .classifier import TrunkClassifier
from .fast_itpn import FastITPN
from .pyramid import IntegralPyramid
from .variants import get_variant


def create_model(
    name: str, pyramid: bool = False, num_classes: int | None = None, **overrides: Any
) -> nn.Module:
    """Build a variant as trunk (default), as Detectron2 backbone (``pyramid=True``) or as classifier
    (``num_classes``).

    Overrides go to the part that has a parameter of that name: the trunk (``drop_path``, ``pos_grid``,
    ``channels``, ...),
    the pyramid (``fpn_dim``, ``fpn_depth``, ``pyramid_mlp_ratio``, ...), the backbone (``freeze_at``,
    ``out_features``, ...) or the classifier (``pooling``); ``norm_eps`` goes to all.

    Raises:
        KeyError: unknown name. TypeError: an override that no part takes. ValueError: pyramid and num_classes
        together.
    """
    if pyramid and num_classes is not None:
        raise ValueError("choose pyramid=True (backbone) or num_classes=... (classifier), not both")
    sizes = {**get_variant(name).kwargs(), **overrides}

    def take(cls: type, shared: tuple[str, ...] = ("norm_eps",)) -> dict[str, Any]:
        known = set(inspect.signature(cls).parameters) - {
            "self",
            "channels",
            "trunk",
            "pyramid",
            "num_classes",
        }
        return {k: sizes[k] if k in shared else sizes.pop(k) for k in list(sizes) if k in known}

    channels = tuple(sizes.pop("channels"))
    pooling = sizes.get("pooling", "mean_then_norm")
    if "pyramid_mlp_ratio" in sizes and not pyramid:
        raise TypeError("pyramid_mlp_ratio needs pyramid=True")
    pyramid_ratio = {"mlp_ratio": sizes.pop("pyramid_mlp_ratio")} if "pyramid_mlp_ratio" in sizes else {}
    trunk_args = take(FastITPN)
    if num_classes is not None:
        trunk_args.setdefault("final_norm", pooling == "norm_then_mean")
    trunk = FastITPN(channels, **trunk_args)
    model: nn.Module = trunk
    if pyramid:
        from .backbone import ITPNBackbone  # the only part that needs Detectron2

        neck = IntegralPyramid(channels, **{**take(IntegralPyramid), **pyramid_ratio})
        model = ITPNBackbone(trunk, neck, **take(ITPNBackbone))
    elif num_classes is not None:
        model = TrunkClassifier(trunk, num_classes, **take(TrunkClassifier))
    sizes.pop("norm_eps", None)
    if sizes:
        raise TypeError(f"create_model({name!r}): unknown override {', '.join(sorted(sizes))}")
    return model
