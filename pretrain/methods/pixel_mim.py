"""Pixel reconstruction with dropped patches (iTPN, CVPR'23), for either trunk."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from itpn_d2.backbone import IntegralBackbone
from itpn_d2.layers import upload
from itpn_d2.normalisation import IMAGENET

from ..decoder import MaskFill, TokenDecoder
from ..encoders import encode_visible, visible_patches
from ..fusion import Form, LevelFusion
from ..masking import Masking, RandomMasking, draw
from ..positions import sincos_2d
from ..targets import Pixels
from ..targets.base import token_grid
from .base import Method, masked_mean


class PixelMIM(Method):
    """Masked patches are dropped before the patch embedding; a decoder over the sum of the three pyramid
    levels predicts their pixels.

    Args:
        backbone: trunk without relative positions, and its pyramid.
        masking: must mask the same number in every sample.
        target: values to predict for each 16x16 patch.
        decoder_dim, decoder_depth, decoder_heads: width, number and heads of the decoder's blocks.
        fusion: how a level becomes tokens, see :class:`~pretrain.fusion.LevelFusion`; ``cells`` is the
            reference's.
        sincos_positions: start the trunk's position table from sines and cosines, as the reference does.
        visible_weight: weight of the error on visible patches. 0 in the papers. Ours: above 0, tokens have to
            encode what their own patch looks like; otherwise, after a short training on few images, they
            encode little more than their position and the image's colour.
        xavier_decoder: start the decoder as MAE does, not as iTPN; a small model learns sooner with it.

    Raises:
        ValueError: ``visible_weight`` is negative.
    """

    def __init__(
        self,
        backbone: IntegralBackbone,
        masking: Masking | None = None,
        target: Pixels | None = None,
        decoder_dim: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        fusion: Form = "cells",
        sincos_positions: bool = True,
        visible_weight: float = 0.0,
        xavier_decoder: bool = False,
        norm_eps: float = 1e-6,
        pixel_mean: Sequence[float] = IMAGENET.mean,
        pixel_std: Sequence[float] = IMAGENET.std,
    ):
        super().__init__(pixel_mean, pixel_std)
        if visible_weight < 0:
            raise ValueError(f"visible_weight {visible_weight} is negative")
        self.visible_weight = visible_weight
        self.backbone = backbone
        self.masking: Masking = RandomMasking(0.75) if masking is None else masking
        self.target = Pixels() if target is None else target
        grid = tuple(backbone.trunk.pos_embed.shape[1:3])
        self.fusion = LevelFusion(backbone.pyramid.fpn_dim, decoder_dim, fusion, norm_eps)
        self.fill = MaskFill(decoder_dim, times=3)
        self.decoder = TokenDecoder(
            decoder_dim,
            decoder_depth,
            decoder_heads,
            (self.target.width(16),),
            (grid[0], grid[1]),
            norm_eps=norm_eps,
            xavier=xavier_decoder,
        )
        if sincos_positions:
            sincos_start(backbone.trunk.pos_embed)

    def predict_tokens(self, image: Tensor, visible: Tensor) -> Tensor:
        """Normalised image and visible places ``(B, K)`` to predictions ``(B, N, width)``."""
        grid = token_grid(image, 16)
        features = encode_visible(self.backbone, image, visible)
        tokens = self.fill(sum(self.fusion(features.levels)), visible, grid[0] * grid[1])
        return self.decoder(tokens, grid)[0]

    def _run(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        image = self.normalise(batch["image"])
        drawn = draw_mask(self.masking, image, batch)
        visible, mask = upload(visible_patches(drawn), image.device), upload(drawn, image.device)
        return mask, self.predict_tokens(image, visible), self.target.tokens(image, 16)

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """``{"loss_pixels": ...}``: squared error, mean over a patch's values, then over masked patches; with
        ``visible_weight`` also ``loss_visible``.

        ``batch`` may have ``mask`` ``(B, N)`` bool, True = masked, to be used instead of a random one.
        """
        mask, prediction, target = self._run(batch)
        errors = (prediction.float() - target).square().mean(-1)
        losses = {"loss_pixels": masked_mean(errors, mask)}
        if self.visible_weight:
            losses["loss_visible"] = self.visible_weight * masked_mean(errors, ~mask)
        return losses

    @torch.no_grad()
    def predict(self, batch: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`.base.Method.predict`."""
        mask, prediction, target = self._run(batch)
        return {
            "image": batch["image"],
            "mask": mask.unflatten(1, token_grid(batch["image"], 16)),
            "prediction": prediction.float(),
            "target": target,
            "stride": 16,
            "kind": "pixels",
        }


def draw_mask(masking: Masking, image: Tensor, batch: dict[str, Any]) -> Tensor:
    """The batch's own ``mask``, else a random one, on the CPU: ``(B, N)`` bool, True = masked."""
    given = batch.get("mask")
    return draw(masking, len(image), token_grid(image, 16)) if given is None else given.bool()


def sincos_start(table: nn.Parameter) -> None:
    """Fill a position table ``(1, h, w, C)`` with sines and cosines, in place."""
    _, h, w, dim = table.shape
    with torch.no_grad():
        table.copy_(sincos_2d(dim, (h, w)).unflatten(1, (h, w)))
