"""FastMIM: masked image modelling on small images, with everything dense and HOG as target."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from itpn_d2.layers import upload
from itpn_d2.normalisation import IMAGENET

from ..encoders import Encoder, xavier_linears
from ..masking import GridMasking, Masking, draw
from ..targets import HOG, Target
from .base import Method, masked_mean


class FastMIM(Method):
    """Masked squares of the image become a learned colour; their targets are regressed from the tokens.

    Nothing is dropped, so any encoder will do. The decoder is a linear layer to ``decoder_dim``, plain ViT
    blocks without positions, a norm and a linear layer.

    Args:
        encoder: see :mod:`pretrain.encoders`.
        target: see :mod:`pretrain.targets`; None: HOG.
        masking: see :mod:`pretrain.masking`; None: three quarters of squares of the encoder's stride. If it
            has a ``block``, its grid is that of squares of ``block`` pixels (a multiple or a divisor of the
            stride), else that of tokens.
        decoder_dim, decoder_depth, decoder_heads: width, number and heads of the decoder's blocks.
        norm_eps: of the decoder's norms.
        visible_weight: weight of the error on visible squares, 0 in the paper; see
            :class:`~pretrain.methods.pixel_mim.PixelMIM`.
        pixel_mean, pixel_std: of RGB in 0..255; what the network and the target see is (image - mean) / std.

    Raises:
        ValueError: ``visible_weight`` is negative.
    """

    def __init__(
        self,
        encoder: Encoder,
        target: Target | None = None,
        masking: Masking | None = None,
        decoder_dim: int = 256,
        decoder_depth: int = 1,
        decoder_heads: int = 8,
        mlp_ratio: float = 4.0,
        norm_eps: float = 1e-6,
        visible_weight: float = 0.0,
        pixel_mean: Sequence[float] = IMAGENET.mean,
        pixel_std: Sequence[float] = IMAGENET.std,
    ):
        super().__init__(pixel_mean, pixel_std)
        if visible_weight < 0:
            raise ValueError(f"visible_weight {visible_weight} is negative")
        self.visible_weight = visible_weight
        self.encoder = encoder
        self.target: Target = HOG() if target is None else target
        self.masking: Masking = GridMasking(0.75, encoder.stride) if masking is None else masking
        norm_layer = partial(nn.LayerNorm, eps=norm_eps)
        self.mask_token = nn.Parameter(torch.empty(1, 3, 1, 1))
        self.decoder_embed = nn.Linear(encoder.width, decoder_dim)
        self.decoder_blocks = nn.Sequential(
            *(
                Block(decoder_dim, decoder_heads, mlp_ratio, qkv_bias=True, norm_layer=norm_layer)
                for _ in range(decoder_depth)
            )
        )
        self.decoder_norm = norm_layer(decoder_dim)
        self.decoder_pred = nn.Linear(decoder_dim, self.target.width(encoder.stride))
        nn.init.normal_(self.mask_token, std=0.02)
        for part in (self.decoder_embed, self.decoder_blocks, self.decoder_pred):
            xavier_linears(part)

    @property
    def backbone(self) -> nn.Module:
        """The network that is kept: trunk and pyramid, or a timm model."""
        return self.encoder.backbone

    def set_input_size(self, size: tuple[int, int]) -> list[str]:
        """See :meth:`pretrain.encoders.Encoder.set_input_size`; the names are those of this module."""
        return [f"encoder.{name}" for name in self.encoder.set_input_size(size)]

    def draw_mask(self, image: Tensor, given: Tensor | None = None) -> Tensor:
        """Mask ``(B, rows, columns)`` bool of the squares of an image batch ``(B, 3, H, W)``, True = masked.

        Args:
            given: ``(B, N)`` bool to use instead; the side of its squares follows from N.

        Raises:
            ValueError: squares and tokens do not fit the image or each other.
        """
        height, width = image.shape[-2:]
        if given is None:
            block = getattr(self.masking, "block", self.encoder.stride)
        else:
            block = max(1, math.isqrt(height * width // max(1, given.shape[1])))
        rows, columns = height // block, width // block
        fits = (
            height % block == 0 and width % block == 0 and (given is None or given.shape[1] == rows * columns)
        )
        stride = self.encoder.stride
        if not fits or (block % stride and stride % block) or height % stride or width % stride:
            of = "" if given is None else f" (from a mask of {given.shape[1]} squares)"
            raise ValueError(
                f"image {height}x{width}, mask squares of {block} pixels{of} and tokens of {stride} pixels "
                f"do not fit together"
            )
        mask = draw(self.masking, len(image), (rows, columns)) if given is None else given.bool()
        return upload(mask, image.device).unflatten(1, (rows, columns))

    def decode(self, tokens: Tensor) -> Tensor:
        """Encoder tokens to predictions ``(B, N, target.width(stride))``.

        Args:
            tokens: ``(B, num_prefix + N, C)``, those that are no patch (a class token) first.
        """
        x = self.decoder_blocks(self.decoder_embed(tokens))
        return self.decoder_pred(self.decoder_norm(x))[:, self.encoder.num_prefix :]

    def reconstruct(self, image: Tensor, mask: Tensor) -> Tensor:
        """Normalised image and mask ``(B, rows, columns)`` to predictions as of :meth:`decode`."""
        block = image.shape[-1] // mask.shape[-1]
        masked = mask.repeat_interleave(block, 1).repeat_interleave(block, 2)
        return self.decode(self.encoder(torch.where(masked[:, None], self.mask_token, image)))

    def loss(self, prediction: Tensor, target: Tensor, mask: Tensor, grid: tuple[int, int]) -> Tensor:
        """Mean squared error over what is masked; 0 if nothing is.

        A mask finer than the token grid counts single squares of a token.

        Args:
            prediction, target: ``(B, N, C)``, N = rows times columns of ``grid``.
            mask: ``(B, rows, columns)`` of the mask grid.
        """
        error = (prediction.float() - target).square()
        parts, times = mask.shape[1] // grid[0], grid[0] // mask.shape[1]
        if parts > 1:
            error = self.target.split(error, self.encoder.stride, parts).mean(-1)
            weight = mask.unflatten(2, (grid[1], parts)).unflatten(1, (grid[0], parts))
            weight = weight.transpose(2, 3).flatten(3).flatten(1, 2)
        else:
            error = error.mean(-1)
            weight = mask.repeat_interleave(times, 1).repeat_interleave(times, 2).flatten(1)
        return masked_mean(error, weight)

    def _run(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        image = self.normalise(batch["image"])
        mask = self.draw_mask(image, batch.get("mask"))
        return mask, self.reconstruct(image, mask), self.target.tokens(image, self.encoder.stride)

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """One loss, named after the target: ``{"loss_hog": ...}`` or ``{"loss_pixels": ...}``; with
        ``visible_weight`` also ``loss_visible``.

        Args:
            batch: ``image`` ``(B, 3, H, W)``, uint8 or float RGB in 0..255; optionally ``mask`` ``(B, N)``
                bool, True = masked, to be used instead of a random one.
        """
        mask, prediction, target = self._run(batch)
        height, width = batch["image"].shape[-2:]
        grid = height // self.encoder.stride, width // self.encoder.stride
        losses = {f"loss_{self.target.name}": self.loss(prediction, target, mask, grid)}
        if self.visible_weight:
            losses["loss_visible"] = self.visible_weight * self.loss(prediction, target, ~mask, grid)
        return losses

    @torch.no_grad()
    def predict(self, batch: dict[str, Any]) -> dict[str, Any]:
        """What a picture of the method needs; ``batch`` as in :meth:`forward`.

        Returns:
            ``image`` as given, ``mask`` ``(B, rows, columns)`` bool, ``prediction`` and ``target``
            ``(B, N, target.width(stride))``, ``stride`` in pixels.
        """
        mask, prediction, target = self._run(batch)
        return {
            "image": batch["image"],
            "mask": mask,
            "prediction": prediction.float(),
            "target": target,
            "stride": self.encoder.stride,
            "kind": self.target.name,
        }
