"""Heads that Detectron2 lacks, or builds from yacs configs only."""

from .fcn import FCNHead
from .point_rend import point_rend_mask_head
from .semantic_fpn import SemSegFPNHead
from .upernet import UPerNetHead

__all__ = ["FCNHead", "SemSegFPNHead", "UPerNetHead", "point_rend_mask_head"]
