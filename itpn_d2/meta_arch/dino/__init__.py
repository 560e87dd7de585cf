"""DINO, the parts in the order in which an image goes through them.

``geometry`` says where cells lie, ``neck`` makes the levels, ``encoder`` mixes them, ``selection`` picks
queries, ``denoising`` adds noisy ones, ``decoder`` refines their boxes; ``matcher`` and ``criterion`` compute
the losses; ``dino`` is the whole model.
"""

from .criterion import Criterion
from .decoder import Decoder
from .dino import DINO
from .encoder import Encoder
from .matcher import HungarianMatcher

__all__ = ["DINO", "Criterion", "Decoder", "Encoder", "HungarianMatcher"]
