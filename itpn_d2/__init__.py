"""Fast-iTPN backbones with their pre-trained feature pyramid, for Detectron2; the trunks for timm, too."""

from .backbone import (
    VARIANTS,
    FastITPN,
    IntegralPyramid,
    create_model,
    timm_models,  # noqa: F401  (registers the trunks with timm)
)

__version__ = "0.1.0"
__all__ = ["VARIANTS", "FastITPN", "IntegralPyramid", "create_model"]
