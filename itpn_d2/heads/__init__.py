"""Heads that Detectron2 lacks, builds from yacs configs only, or draws by process."""

from .by_sample import RPN, CascadeROIHeads, KeypointHead, StandardROIHeads
from .fcn import FCNHead
from .point_rend import point_rend_mask_head
from .semantic_fpn import SemSegFPNHead
from .upernet import UPerNetHead

__all__ = [
    "RPN",
    "CascadeROIHeads",
    "FCNHead",
    "KeypointHead",
    "SemSegFPNHead",
    "StandardROIHeads",
    "UPerNetHead",
    "point_rend_mask_head",
]
