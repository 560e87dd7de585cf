"""Token encoders and the masked passes of trunk and pyramid.

Token encoders: image ``(B, 3, H, W)`` to tokens of one stride, for methods that drop nothing.

Each holds the network that is kept after pre-training as ``backbone``; its other parts (a fusion of pyramid
levels, a norm) belong to pre-training. ``drop_last`` leaves out the last blocks of the backbone while it is
pre-trained (partial encoder of FastMIM); the names of the remaining ones do not change.
"""

from .base import Encoder, xavier_linears
from .masked import Features, encode_masked_patches, encode_visible, trunk_visible, visible_patches
from .networks import SwinEncoder, TimmEncoder, ViTEncoder
from .pyramid import PyramidEncoder

__all__ = [
    "Encoder",
    "Features",
    "PyramidEncoder",
    "SwinEncoder",
    "TimmEncoder",
    "ViTEncoder",
    "encode_masked_patches",
    "encode_visible",
    "trunk_visible",
    "visible_patches",
    "xavier_linears",
]
