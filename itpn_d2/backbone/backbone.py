"""The integrally pre-trained backbone as Detectron2 knows backbones."""

from detectron2.modeling import Backbone, ShapeSpec

from .integral import IntegralBackbone
from .pyramid import STRIDES


class ITPNBackbone(IntegralBackbone, Backbone):
    """:class:`IntegralBackbone`, which tells the shapes of its levels as Detectron2 asks for them."""

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each level that the backbone gives, by name."""
        channels = self.pyramid.channels
        return {name: ShapeSpec(channels=channels[name], stride=STRIDES[name]) for name in self._out_features}
