"""Panoptic FPN (Kirillov et al., CVPR'19): a Mask R-CNN with a semantic branch."""

from itpn_d2.meta_arch import PanopticFPN

from .segmentor import fpn_head


def panoptic(model):
    """Turn a Mask R-CNN into a Panoptic FPN; in place."""
    model._target_ = PanopticFPN
    model.sem_seg_head = fpn_head("${dataset.num_semantic_classes}", loss_weight=0.5)
    model.update(
        combine_overlap_thresh=0.5, combine_stuff_area_thresh=4096, combine_instances_score_thresh=0.5
    )
    return model
