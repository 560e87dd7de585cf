"""Mask DINO: what it has beyond :mod:`itpn_d2.meta_arch.dino`.

``pixel_features`` are the map on which masks are predicted, ``targets`` makes masks from any kind of ground
truth, ``matcher`` and ``criterion`` compute their losses, ``inference`` turns them into instances, semantic
maps and panoptic maps; ``mask_dino`` is the whole model.
"""

from .criterion import MaskCriterion
from .mask_dino import MaskDINO
from .matcher import MaskMatcher

__all__ = ["MaskCriterion", "MaskDINO", "MaskMatcher"]
