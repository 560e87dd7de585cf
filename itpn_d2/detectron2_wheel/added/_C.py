"""Stand-in for Detectron2's compiled operators in a build without a compiler.

Modules of Detectron2 import ``detectron2._C`` at import time and look operators up when they need them.
Looking one up here raises an error that names the operator, and ``hasattr(_C, name)`` answers False.
"""

from typing import NoReturn

import torch


def _missing(name: str) -> str:
    return (
        f"detectron2._C.{name} is a compiled operator and this Detectron2 is the pure-Python build. "
        "Rotated boxes, deformable convolutions and the fast COCO evaluator need Detectron2 built from "
        "source (see its INSTALL guide)."
    )


def get_compiler_version() -> str:
    """Read by ``detectron2.utils.collect_env``."""
    return "none (pure-Python build)"


def get_cuda_version() -> str:
    """Read by ``detectron2.utils.collect_env``."""
    return "none (pure-Python build)"


def has_cuda() -> bool:
    """Read by ``detectron2.utils.collect_env``: no operator of this build was compiled for CUDA."""
    return False


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(_missing(name))


def _nms_rotated(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    raise NotImplementedError(_missing("nms_rotated"))


# TorchScript resolves torch.ops.detectron2.nms_rotated when it compiles the proposal code, also for models
# that never call it, so the schema must exist. The registration holds as long as the library object lives.
_library = torch.library.Library("detectron2", "DEF")
_library.define("nms_rotated(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")
_library.impl("nms_rotated", _nms_rotated, "CompositeExplicitAutograd")
