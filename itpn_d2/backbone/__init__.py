"""Trunks, the integral pyramid, and both as a Detectron2 backbone (``itpn_d2.backbone.backbone``)."""

from .classifier import TrunkClassifier
from .create import create_model
from .fast_itpn import FastITPN
from .pyramid import IntegralPyramid
from .variants import VARIANTS, Variant, get_variant

__all__ = [
    "VARIANTS",
    "FastITPN",
    "IntegralPyramid",
    "TrunkClassifier",
    "Variant",
    "create_model",
    "get_variant",
]
