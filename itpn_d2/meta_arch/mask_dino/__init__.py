"""Mask DINO: what it has beyond :mod:`itpn_d2.meta_arch.dino`.

``pixel_features`` are what masks are predicted on, ``targets`` makes masks of any truth, ``matcher`` and
``criterion`` judge them, ``inference`` turns them into instances, semantic maps and panoptic maps;
``mask_dino`` is the whole.
"""

from .criterion import MaskCriterion
from .mask_dino import MaskDINO
from .matcher import MaskMatcher

__all__ = ["MaskCriterion", "MaskDINO", "MaskMatcher"]
