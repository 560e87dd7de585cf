"""Trunks, the integral pyramid, and both as a Detectron2 backbone (``itpn_d2.backbone.backbone``)."""

from .classifier import TrunkClassifier
from .create import create_model
from .fast_itpn import FastITPN
from .gathering import TokenGathering
from .itpn import ITPN
from .migration import METRICS, TokenMigration
from .pyramid import IntegralPyramid
from .trunk import Trunk
from .variants import VARIANTS, Variant, get_variant

__all__ = [
    "ITPN",
    "METRICS",
    "VARIANTS",
    "FastITPN",
    "IntegralPyramid",
    "TokenGathering",
    "TokenMigration",
    "Trunk",
    "TrunkClassifier",
    "Variant",
    "create_model",
    "get_variant",
]
