"""Fast-iTPN backbones with their pre-trained feature pyramid, for Detectron2."""

from .backbone import VARIANTS, FastITPN, IntegralPyramid, create_model

__version__ = "0.1.0"
__all__ = ["VARIANTS", "FastITPN", "IntegralPyramid", "create_model"]
