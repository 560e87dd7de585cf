"""Files with the names of Detectron2's own detectors, such as those of its model zoo: what has the name and
the shape of a part of the model is loaded, the rest is reported. Their backbones fit Detectron2's alone."""

import logging
import re

from torch import Tensor, nn

from ..errors import CheckpointError
from .finite import check_finite
from .report import LoadReport
from .state import Stored

logger = logging.getLogger(__name__)
LAYOUT = "Detectron2"
_PARTS = re.compile(
    r"(roi_heads|proposal_generator|sem_seg_head|ins_embed_head|head|panoptic_fpn)\."
    r"|backbone\.(bottom_up|fpn_(lateral|output)\d)\."
)
# of older files; the config has them
_FROM_CONFIG = re.compile(r"pixel_(mean|std)$|(.*\.)?anchor_generator\.cell_anchors\.\d+$")


def has_detectron2_names(state: dict[str, Tensor]) -> bool:
    """Whether most names are those of a detector that Detectron2's classes make."""
    return 2 * sum(bool(_PARTS.match(name)) for name in state) > len(state)


def load_by_name(model: nn.Module, stored: Stored, name: str = "") -> LoadReport:
    """Load what the model has under the same name and in the same shape.

    Raises:
        CheckpointError: that is nothing, or not finite; the model is then untouched.
    """
    own = model.state_dict()
    report = LoadReport(name, LAYOUT, contents=str(stored))
    chosen: dict[str, Tensor] = {}
    for key, value in stored.state.items():
        like = own.get(key)
        if like is None:
            (report.ignored if _FROM_CONFIG.match(key) else report.unexpected).append(key)
        elif value.shape == like.shape and value.is_floating_point() == like.is_floating_point():
            report.loaded.append(key)
            chosen[key] = value.to(like.dtype)
        else:
            report.mismatched.append(f"{key}: file {tuple(value.shape)}, model {tuple(like.shape)}")
    report.missing = [key for key in own if key not in chosen]
    if not chosen:
        raise CheckpointError(
            "it contains a detector of Detectron2, but no tensor has a name and shape of this "
            f"model\n{report}"
        )
    check_finite(chosen, stored.state)
    model.load_state_dict(chosen, strict=False)
    logger.info("Checkpoint %s", report)
    return report
