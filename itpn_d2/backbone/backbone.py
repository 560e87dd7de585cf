"""The integrally pre-trained backbone as a Detectron2 ``Backbone``."""

from detectron2.modeling import Backbone, ShapeSpec

from .integral import IntegralBackbone
from .pyramid import STRIDES


class ITPNBackbone(IntegralBackbone, Backbone):
    """:class:`IntegralBackbone` with the ``output_shape`` that Detectron2 expects."""

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each level that the backbone gives, by name."""
        channels = self.pyramid.channels
        return {name: ShapeSpec(channels=channels[name], stride=STRIDES[name]) for name in self._out_features}
