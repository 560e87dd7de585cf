"""Networks of timm in the places of the integral backbones: under a feature pyramid, and as classifiers."""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool

from itpn_d2.backbone import ScaledLevels, SimplePyramid, TimmBackbone, timm_classifier, timm_shapes

from .classifier import classifier
from .segmentor import upernet


def network(name, options=None, **more):
    """``options``: further arguments of timm's constructor."""
    return L(TimmBackbone)(
        name=name, options=options or {}, drop_path=0.0, freeze_at=0, checkpointing=False, **more
    )


def fpn(name, out_channels=256, norm="", options=None, **more):
    """Detectron2's FPN over a network with stages."""
    return L(FPN)(
        bottom_up=network(name, options, **more),
        in_features=["res2", "res3", "res4", "res5"],
        out_channels=out_channels,
        norm=norm,
        top_block=L(LastLevelMaxPool)(),
    )


def simple_pyramid(name, out_channels=256, options=None, **more):
    """ViTDet's pyramid over the last map of a plain ViT."""
    return L(SimplePyramid)(
        net=network(name, options, names=["last_feat"], **more),
        in_feature="last_feat",
        out_channels=out_channels,
        top_block=L(LastLevelMaxPool)(),
    )


def use_pyramid(model, pyramid):
    """Put another pyramid under the heads of a Mask R-CNN; in place."""
    model.backbone, levels = pyramid, "${model.backbone.out_channels}"
    model.proposal_generator.head.in_channels = levels
    for head in (model.roi_heads.box_head, model.roi_heads.mask_head):
        head.input_shape.channels = levels


def upernet_stages(name, channels=512, norm="SyncBN", window=512, stride=341, options=None, **more):
    """UPerNet on the four maps of a network with stages."""

    def shapes(*levels):
        return L(timm_shapes)(
            name="${model.backbone.name}", levels=levels, options="${model.backbone.options}"
        )

    model = upernet(name, channels=channels, norm=norm, window=window, stride=stride)
    model.backbone = network(name, options, **more)
    model.sem_seg_head.input_shape = shapes("res2", "res3", "res4", "res5")
    model.auxiliary_head.input_shape = shapes("res4")
    return model


def upernet_vit(name, blocks, channels=768, norm="SyncBN", window=512, stride=341, options=None, **more):
    """UPerNet on four depths of a plain ViT, brought to strides 4 to 32 (BEiT)."""

    def shapes(*levels):
        return L(timm_shapes)(
            name="${model.backbone.net.name}",
            levels=levels,
            out_indices="${model.backbone.net.out_indices}",
            scaled=True,
            options="${model.backbone.net.options}",
        )

    model = upernet(name, channels=channels, norm=norm, window=window, stride=stride)
    model.backbone = L(ScaledLevels)(net=network(name, options, out_indices=blocks, **more), norm=norm)
    model.sem_seg_head.input_shape = shapes("p2", "p3", "p4", "p5")
    model.auxiliary_head.input_shape = shapes("p5")
    return model


def classifier_of_timm(name, drop_path=0.1, head_std=None, options=None, img_size=None):
    """A network of timm with a linear head; training as our own classifiers."""
    model = classifier(name)
    model.network = L(timm_classifier)(
        name=name,
        num_classes="${dataset.num_classes}",
        drop_path=drop_path,
        head_std=head_std,
        img_size=img_size,
        options=options or {},
    )
    return model
