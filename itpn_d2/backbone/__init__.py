"""Trunks, the integral pyramid, and both as a Detectron2 backbone (``itpn_d2.backbone.backbone``); networks
of timm as one (``TimmBackbone``)."""

from importlib import import_module
from typing import Any

from .classifier import TrunkClassifier
from .create import create_model
from .fast_itpn import FastITPN
from .gathering import TokenGathering
from .integral import IntegralBackbone
from .itpn import ITPN
from .migration import METRICS, TokenMigration
from .pyramid import IntegralPyramid
from .timm_classifier import timm_classifier
from .trunk import Trunk
from .variants import VARIANTS, Variant, get_variant

__all__ = [
    "ITPN",
    "METRICS",
    "VARIANTS",
    "FastITPN",
    "IntegralBackbone",
    "IntegralPyramid",
    "TokenGathering",
    "TokenMigration",
    "Trunk",
    "TrunkClassifier",
    "Variant",
    "create_model",
    "get_variant",
    "timm_classifier",
]
# these need Detectron2, which the trunks do without
_OF_DETECTRON2 = {
    "TimmBackbone": "timm_backbone",
    "timm_shapes": "timm_backbone",
    "ScaledLevels": "simple_pyramid",
    "SimplePyramid": "simple_pyramid",
}


def __getattr__(name: str) -> Any:
    if name in _OF_DETECTRON2:
        return getattr(import_module(f"{__name__}.{_OF_DETECTRON2[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
