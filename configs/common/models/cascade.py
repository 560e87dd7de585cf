"""Cascade Mask R-CNN over the integral pyramid: three box heads that are trained at growing overlaps.

As in the reference the heads are those of its Mask R-CNN and the targets are normalised by .1, .05 and .033.
Detectron2's cascade hands one box of a proposal to the next head, so that boxes are regressed without regard
to the class, where the reference regresses one for each.
"""

from copy import deepcopy

from detectron2.config import LazyCall as L
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher

from itpn_d2.heads import CascadeROIHeads

STAGES = ((0.5, 10), (0.6, 20), (0.7, 30))  # overlap of a positive, weight of a shift (a size: half of it)


def cascade(model):
    """Turn a Mask R-CNN into a cascade of three box heads; in place."""
    heads = model.roi_heads
    box_head, predictor = heads.pop("box_head"), heads.pop("box_predictor")
    heads.pop("proposal_matcher")
    # one level deeper than the single predictor, in a list
    predictor.update(num_classes="${...num_classes}", cls_agnostic_bbox_reg=True)
    heads._target_ = CascadeROIHeads
    heads.box_heads = [deepcopy(box_head) for _ in STAGES]
    heads.box_predictors = []
    for _, weight in STAGES:
        stage = deepcopy(predictor)
        stage.box2box_transform = L(Box2BoxTransform)(weights=(weight, weight, weight / 2, weight / 2))
        heads.box_predictors.append(stage)
    heads.proposal_matchers = [
        L(Matcher)(thresholds=[overlap], labels=[0, 1], allow_low_quality_matches=False)
        for overlap, _ in STAGES
    ]
    return model
