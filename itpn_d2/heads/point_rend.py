"""PointRend (Kirillov et al., CVPR'20), Detectron2's own project, for LazyConfigs: its mask head takes a yacs
config, which is made here from plain arguments."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.projects.point_rend import PointRendMaskHead as Detectron2PointRendMaskHead
from detectron2.projects.point_rend import add_pointrend_config
from detectron2.structures import Instances
from torch import Tensor

from ..layers import Reseeded


class PointRendMaskHead(Detectron2PointRendMaskHead):
    """Detectron2's, which samples its maps in float32 in any case: see
    :func:`itpn_d2.layers.sampling.sample_points` for what half types do to that."""

    def forward(self, features: dict[str, Tensor], instances: list[Instances]) -> Any:
        """Losses of masks in training, else the instances with ``pred_masks``.

        Args:
            features: maps ``(B, C, H, W)`` by name, in any type.
            instances: proposals with their objects in training, else detections, of each image.
        """
        if self.training and not any(len(found) for found in instances):
            # images of background alone, where Detectron2's has no point to sample; every parameter takes
            # part, as distributed training asks for
            nothing = sum(p.sum() for p in self.parameters()) * 0.0
            return {"loss_mask": nothing, "loss_mask_point": nothing}
        return super().forward({name: map.float() for name, map in features.items()}, instances)

    def _sample_train_points(self, coarse_mask: Tensor, instances: list[Instances]) -> tuple[Tensor, Tensor]:
        """Points and labels of one image after the other, each image's by its own numbers."""
        turns, found = Reseeded("points", len(instances)), []
        for mask, one in zip(coarse_mask.split([len(i) for i in instances]), instances, strict=True):
            turns.next_image()
            if len(one):
                found.append(super()._sample_train_points(mask, [one]))
        points, labels = zip(*found, strict=True)
        return torch.cat(points), torch.cat(labels)


def point_rend_mask_head(
    num_classes: int,
    in_channels: int = 256,
    in_features: Sequence[str] = ("p2",),
    coarse_fc_dim: int = 1024,
    point_fc_dim: int = 256,
    train_points: int = 196,
    subdivision_steps: int = 5,
    subdivision_points: int = 784,
) -> PointRendMaskHead:
    """A coarse 7x7 mask from a 14x14 grid of features, refined at its uncertain points. For
    ``StandardROIHeads`` without a mask pooler; the data have to give bit masks.

    Args:
        in_channels: of each map.
        in_features: maps it samples; names are those of the pyramid, ``p2`` has stride 4.
        coarse_fc_dim, point_fc_dim: widths of the two parts.
        train_points: of a mask, that the loss is taken at.
        subdivision_steps: how often the mask is doubled, from 7x7; 5 give 224x224.
        subdivision_points: that are predicted anew in each step.
    """
    cfg = get_cfg()
    add_pointrend_config(cfg)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.POINT_HEAD.NUM_CLASSES = num_classes
    coarse, point = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.POINT_HEAD
    coarse.IN_FEATURES = point.IN_FEATURES = tuple(in_features)
    coarse.CONV_DIM = in_channels
    coarse.FC_DIM = coarse_fc_dim
    coarse.POINT_HEAD_ON = True
    coarse.POOLER_RESOLUTION = 14
    coarse.OUTPUT_SIDE_RESOLUTION = 7
    point.FC_DIM = point_fc_dim
    point.TRAIN_NUM_POINTS = train_points
    point.SUBDIVISION_STEPS = subdivision_steps
    point.SUBDIVISION_NUM_POINTS = subdivision_points
    shapes = {name: ShapeSpec(channels=in_channels, stride=2 ** int(name[1:])) for name in in_features}
    return PointRendMaskHead(cfg, shapes)
