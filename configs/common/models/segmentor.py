"""Semantic segmentation over the integral pyramid: UPerNet with its auxiliary head, and Semantic FPN."""

from detectron2.config import LazyCall as L

from itpn_d2.backbone import create_model
from itpn_d2.backbone.shapes import pyramid_shapes
from itpn_d2.heads import FCNHead, SemSegFPNHead, UPerNetHead
from itpn_d2.meta_arch import ImageSegmentor
from itpn_d2.normalisation import IMAGENET


def shapes(*levels):
    """Of the model's own backbone, whatever it is changed to."""
    return L(pyramid_shapes)(
        name="${model.backbone.name}",
        levels=levels,
        fpn_dim="${model.backbone.fpn_dim}",
        concat_trunk="${oc.select:model.backbone.concat_trunk,false}",
        channels="${oc.select:model.backbone.channels,null}",
    )


def fpn_head(num_classes, loss_weight=1.0):
    """Semantic FPN's head (Panoptic FPN, section 3)."""
    return L(SemSegFPNHead)(
        input_shape=shapes("p2", "p3", "p4", "p5"),
        num_classes=num_classes,
        conv_dims=128,
        common_stride=4,
        norm="GN",
        loss_weight=loss_weight,
        ignore_value=255,
    )


def _segmentor(name, fpn_dim, head, auxiliary, concat_trunk, window, stride):
    return L(ImageSegmentor)(
        backbone=L(create_model)(
            name=name,
            pyramid=True,
            concat_trunk=concat_trunk,
            drop_path=0.0,
            fpn_dim=fpn_dim,
            out_features=("p2", "p3", "p4", "p5"),
            freeze_at=0,
            checkpointing=(),
        ),
        sem_seg_head=head,
        auxiliary_head=auxiliary,
        window=window,
        stride=stride,
        window_batch=1,
        pixel_mean=list(IMAGENET.mean),  # RGB
        pixel_std=list(IMAGENET.std),
        input_format="RGB",
    )


def upernet(name, fpn_dim=256, channels=768, norm="SyncBN", window=512, stride=341):
    """The references' UPerNet: every level of the pyramid carries the trunk's map of its stride."""
    head = L(UPerNetHead)(
        input_shape=shapes("p2", "p3", "p4", "p5"),
        num_classes="${dataset.num_classes}",
        channels=channels,
        pools=(1, 2, 3, 6),
        norm=norm,
        dropout=0.1,
    )
    auxiliary = L(FCNHead)(
        input_shape=shapes("p4"),
        num_classes="${dataset.num_classes}",
        channels=256,
        norm=norm,
        dropout=0.1,
        loss_weight=0.4,
    )
    return _segmentor(name, fpn_dim, head, auxiliary, True, window, stride)


def semantic_fpn(name, fpn_dim=256, window=512, stride=341):
    """Semantic FPN on the pyramid alone."""
    return _segmentor(name, fpn_dim, fpn_head("${dataset.num_classes}"), None, False, window, stride)
