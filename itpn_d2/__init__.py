"""Fast-iTPN backbones with their pre-trained feature pyramid, for Detectron2; the trunks for timm, too."""

from typing import TYPE_CHECKING, Any

from .backbone import (
    VARIANTS,
    FastITPN,
    IntegralPyramid,
    create_model,
    timm_models,  # noqa: F401  (registers the trunks with timm)
)

if TYPE_CHECKING:
    from .inference import Predictor

__version__ = "0.1.0"
__all__ = ["VARIANTS", "FastITPN", "IntegralPyramid", "Predictor", "create_model"]


def __getattr__(name: str) -> Any:
    if name == "Predictor":  # needs Detectron2, which the trunks do without
        from .inference import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
