"""PointRend (CVPR'20): masks whose uncertain points are predicted anew, one by one."""

from detectron2.config import LazyCall as L

from itpn_d2.heads import point_rend_mask_head


def point_rend(model, dataloader, coarse_fc_dim=1024, point_fc_dim=256):
    """Put PointRend's mask head into a Mask R-CNN, and bit masks, which it needs, into the data; in place."""
    heads = model.roi_heads
    heads.mask_in_features, heads.mask_pooler = ["p2"], None
    heads.mask_head = L(point_rend_mask_head)(
        num_classes="${..num_classes}",
        in_channels="${model.backbone.fpn_dim}",
        coarse_fc_dim=coarse_fc_dim,
        point_fc_dim=point_fc_dim,
    )
    for loader in (dataloader.train, dataloader.val_loss):
        loader.mapper.instance_mask_format = "bitmask"
    return model
