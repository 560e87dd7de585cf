"""The integrally pre-trained backbone as Detectron2 knows backbones."""

from detectron2.config import CfgNode
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, ShapeSpec

from .integral import IntegralBackbone
from .pyramid import STRIDES
from .variants import get_variant
from .yacs import yacs_options


class ITPNBackbone(IntegralBackbone, Backbone):
    """:class:`IntegralBackbone`, which tells the shapes of its levels as Detectron2 asks for them."""

    def output_shape(self) -> dict[str, ShapeSpec]:
        channels = self.pyramid.channels
        return {name: ShapeSpec(channels=channels[name], stride=STRIDES[name]) for name in self._out_features}


@BACKBONE_REGISTRY.register()
def build_itpn_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> ITPNBackbone:
    """Build from a yacs config (``MODEL.ITPN``, see :func:`itpn_d2.backbone.yacs.add_itpn_config`)."""
    node = cfg.MODEL.ITPN
    variant = get_variant(node.NAME)
    in_channels = input_shape.channels if input_shape is not None else len(cfg.MODEL.PIXEL_MEAN)
    trunk = variant.trunk(
        drop_path=node.DROP_PATH,
        pos_grid=tuple(node.POS_GRID),
        in_channels=in_channels,
        migration=yacs_options(node.MIGRATION),
        gathering=yacs_options(node.GATHERING),
    )
    pyramid = variant.pyramid(fpn_dim=node.FPN_DIM, fpn_depth=node.FPN_DEPTH)
    return ITPNBackbone(
        trunk,
        pyramid,
        out_features=tuple(node.OUT_FEATURES),
        freeze_at=node.FREEZE_AT,
        checkpointing=tuple(node.CHECKPOINTING),
        mask_padding=node.MASK_PADDING,
    )
