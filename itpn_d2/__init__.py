"""Fast-iTPN backbones with their pre-trained feature pyramid, for Detectron2; the trunks for timm, too."""

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

# fvcore and Detectron2 script functions when they are imported, of which torch warns. Behind all other
# filters: a program that turns warnings on (-W, its own filters) gets this one, too.
warnings.filterwarnings("ignore", r".torch\.jit\.script. is deprecated", category=FutureWarning, append=True)

# itpn-install-detectron2 is in this package and also runs where nothing else is installed yet
if all(find_spec(package) for package in ("torch", "timm")):
    from .backbone import (
        VARIANTS,
        FastITPN,
        IntegralPyramid,
        timm_models,  # registers the trunks with timm
    )
    from .models import create_model, load_weights
    from .registration import register_with_detectron2

    timm_models.use_loader(load_weights)
    register_with_detectron2()

if TYPE_CHECKING:
    from .backbone.yacs import add_itpn_config
    from .inference import Predictor

__version__ = "0.2.0"
__all__ = ["VARIANTS", "FastITPN", "IntegralPyramid", "Predictor", "add_itpn_config", "create_model"]


def __getattr__(name: str) -> Any:
    if name == "Predictor":  # needs Detectron2, which the trunks do without
        from .inference import Predictor

        return Predictor
    if name == "add_itpn_config":
        from .backbone.yacs import add_itpn_config

        return add_itpn_config
    if name in __all__:
        raise ImportError(f"itpn_d2.{name} needs torch and timm: pip install torch torchvision timm")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
