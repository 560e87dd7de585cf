"""The backbones of this project by their names in yacs configs; importing this registers them.

What they build is imported when one is built: this module is imported while Detectron2 is (see
:mod:`itpn_d2.registration`), and the backbones' own modules need all of Detectron2.
"""

from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY

from .yacs import out_features, yacs_options, yacs_section


def _channels(cfg: CfgNode, input_shape: ShapeSpec | None) -> int:
    return input_shape.channels if input_shape is not None else len(cfg.MODEL.PIXEL_MEAN)


@BACKBONE_REGISTRY.register()
def build_itpn_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Any:
    """An :class:`~itpn_d2.backbone.backbone.ITPNBackbone` from ``MODEL.ITPN``, see
    :func:`itpn_d2.backbone.yacs.add_itpn_config`."""
    from .backbone import ITPNBackbone
    from .variants import get_variant

    node = yacs_section(cfg, "ITPN")
    variant = get_variant(node.NAME)
    trunk = variant.trunk(
        drop_path=node.DROP_PATH,
        pos_grid=tuple(node.POS_GRID),
        in_channels=_channels(cfg, input_shape),
        migration=yacs_options(node.MIGRATION),
        gathering=yacs_options(node.GATHERING),
    )
    return ITPNBackbone(
        trunk,
        variant.pyramid(fpn_dim=node.FPN_DIM, fpn_depth=node.FPN_DEPTH),
        out_features=out_features(cfg),
        freeze_at=node.FREEZE_AT,
        checkpointing=tuple(node.CHECKPOINTING),
        mask_padding=node.MASK_PADDING,
    )


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Any:
    """A :class:`~itpn_d2.backbone.timm_backbone.TimmBackbone` from ``MODEL.TIMM``, see
    :func:`itpn_d2.backbone.yacs.add_itpn_config`."""
    from .timm_backbone import TimmBackbone

    node = yacs_section(cfg, "TIMM")
    return TimmBackbone(
        node.NAME,
        out_indices=list(node.OUT_INDICES) or None,
        img_size=tuple(node.IMG_SIZE) or None,
        in_chans=_channels(cfg, input_shape),
        drop_path=node.DROP_PATH,
        level_norms=node.LEVEL_NORMS,
        norm=node.NORM,
        freeze_at=node.FREEZE_AT,
        checkpointing=node.CHECKPOINTING,
        options={key.lower(): value for key, value in node.OPTIONS.items()},
    )


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Any:
    """The same under Detectron2's FPN (``MODEL.FPN``; no ``IN_FEATURES`` there: all maps)."""
    from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool

    bottom_up = build_timm_backbone(cfg, input_shape)
    return FPN(
        bottom_up=bottom_up,
        in_features=list(cfg.MODEL.FPN.IN_FEATURES) or list(bottom_up.output_shape()),
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


@BACKBONE_REGISTRY.register()
def build_timm_simple_pyramid_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Any:
    """The same under a :class:`~itpn_d2.backbone.simple_pyramid.SimplePyramid`, for a plain ViT
    (``MODEL.FPN.{OUT_CHANNELS,NORM}``)."""
    from detectron2.modeling.backbone.fpn import LastLevelMaxPool

    from .simple_pyramid import SimplePyramid

    bottom_up = build_timm_backbone(cfg, input_shape)
    return SimplePyramid(
        bottom_up,
        list(bottom_up.output_shape())[-1],
        cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM or "LN",
        top_block=LastLevelMaxPool(),
    )
