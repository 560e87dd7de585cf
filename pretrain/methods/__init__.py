"""Pre-training methods: a batch in, a dict of losses out."""

from .base import Method
from .clip_distillation import CLIPDistillation
from .distillation import FeatureDistillation
from .fastmim import FastMIM
from .mfm import MFM
from .pixel_mim import PixelMIM

__all__ = ["MFM", "CLIPDistillation", "FastMIM", "FeatureDistillation", "Method", "PixelMIM"]
