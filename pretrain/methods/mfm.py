"""Masked feature modelling with a moving-average teacher (idea of Fast-iTPN, TPAMI'24; the design is ours).

The paper's description, without code: intermediate targets come from the original image through a
moving-average copy of the backbone, and each stage of the pyramid reconstructs them. What it leaves open is
decided here and can be configured.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from itpn_d2.backbone import IntegralBackbone
from itpn_d2.layers import upload
from itpn_d2.normalisation import IMAGENET

from ..decoder import MaskFill, TokenDecoder
from ..encoders import encode_visible, trunk_visible, visible_patches
from ..fusion import UNITS, Form, LevelFusion
from ..masking import Masking, RandomMasking
from ..targets import Pixels
from ..targets.base import token_grid
from .base import Method, masked_mean
from .pixel_mim import draw_mask, sincos_start

# BootMAE's schedule: (epoch, momentum), linear in between
MOMENTUM = ((0, 0.999), (100, 0.9999), (400, 0.99999))
STAGES = ("stage3", "stage2", "stage1")  # in the order of p4, p3, p2


Schedule = list[tuple[float, float]]


def _schedule(name: str, points: Sequence[Sequence[float]]) -> Schedule:
    found = [(float(epoch), float(value)) for epoch, value in points]
    if not found or [e for e, _ in found] != sorted(e for e, _ in found):
        raise ValueError(f"{name} {found}: (epoch, value) pairs in order of the epochs")
    return found


def value_at(schedule: Schedule, epoch: float) -> float:
    """Of (epoch, value) points: linear in between, constant before the first and after the last."""
    epochs, values = zip(*schedule, strict=True)
    return float(np.interp(epoch, epochs, values))


class MFM(Method):
    """Pixels and the teacher's three stages, from dropped-patch encodings of trunk and pyramid.

    Branch p4 predicts stage 3, p3 stage 2, p2 stage 1 and the pixels. Tokens are summed top-down before the
    branches, so that the last one sees all three levels; each branch fills dropped patches with a token of
    its own and has its own small decoder. Targets are the teacher's features, normalised.

    Args:
        backbone: trunk without relative positions, and its pyramid.
        feature_weight: factor on the three feature losses, one number or one each for stages 1, 2, 3.
        pixel_weight: factor on the pixel loss; 0 leaves it out.
        feature_schedule: (epoch, factor) on the feature losses, linear in between, constant after the last.
        target_norm: of the teacher's features. ``token``: each token by itself, an affine-free LayerNorm;
            ``image``: each channel over the tokens of its image, as in data2vec, so that predicting what all
            tokens have in common does not lower the loss. Features of a short run shrink to just that with
            ``token``.
        momentum: (epoch, momentum) of the teacher's average, linear in between, constant after the last.
        teacher_input: ``image``: the teacher sees all of it; ``masked``: only the masked patches.
        decoder_dim, decoder_heads: width and heads of the branches' decoders.
        decoder_depths: blocks of the decoders of p4, p3, p2.
        visible_weight: weight of the pixel error on visible patches, see
            :class:`~pretrain.methods.pixel_mim.PixelMIM`.
        xavier_decoder: start the decoders as MAE does, not as iTPN.

    Raises:
        ValueError: an unknown ``teacher_input`` or ``target_norm``; not three of ``feature_weight`` or
            ``decoder_depths``; ``visible_weight`` is negative, or above 0 where ``pixel_weight`` is 0.
    """

    feature_factor: Tensor

    def __init__(
        self,
        backbone: IntegralBackbone,
        masking: Masking | None = None,
        feature_weight: float | Sequence[float] = 1.0,
        pixel_weight: float = 1.0,
        feature_schedule: Sequence[Sequence[float]] = ((0, 1.0),),
        target_norm: str = "token",
        momentum: Sequence[Sequence[float]] = MOMENTUM,
        teacher_input: str = "image",
        decoder_dim: int = 512,
        decoder_depths: Sequence[int] = (2, 2, 4),
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
        if teacher_input not in ("image", "masked"):
            raise ValueError(f"teacher_input {teacher_input!r}: choose image or masked")
        if target_norm not in ("token", "image"):
            raise ValueError(f"target_norm {target_norm!r}: choose token or image")
        weights = [feature_weight] * 3 if isinstance(feature_weight, (int, float)) else list(feature_weight)
        if len(weights) != 3 or len(decoder_depths) != 3:
            raise ValueError("feature_weight and decoder_depths have one value for each of three stages")
        if visible_weight < 0 or (visible_weight and not pixel_weight):
            raise ValueError(
                f"visible_weight {visible_weight} with pixel_weight {pixel_weight}: it weights the pixels "
                "of visible patches, so it must be at least 0, and 0 if pixel_weight is 0"
            )
        self.momentum = _schedule("momentum", momentum)
        self.feature_schedule = _schedule("feature_schedule", feature_schedule)
        self.target_norm = target_norm
        # in checkpoints, so that a resumed run goes on with it
        self.register_buffer("feature_factor", torch.tensor(value_at(self.feature_schedule, 0.0)))
        trunk = backbone.trunk
        grid = (trunk.pos_embed.shape[1], trunk.pos_embed.shape[2])
        self.backbone = backbone
        self.masking: Masking = RandomMasking(0.75) if masking is None else masking
        self.weights = {f"stage{k + 1}": float(w) for k, w in enumerate(weights)}
        self.pixel_weight, self.teacher_input = pixel_weight, teacher_input
        self.visible_weight = visible_weight
        self.target = Pixels()
        self.fusion = LevelFusion(backbone.pyramid.fpn_dim, decoder_dim, fusion, norm_eps)
        self.fills = nn.ModuleList(MaskFill(decoder_dim) for _ in UNITS)
        widths = [c * u * u for c, u in zip(reversed(trunk.channels), UNITS, strict=True)]
        outputs = [(widths[0],), (widths[1],), (widths[2], self.target.width(16))]
        self.decoders = nn.ModuleList(
            TokenDecoder(
                decoder_dim, depth, decoder_heads, out, grid, norm_eps=norm_eps, xavier=xavier_decoder
            )
            for depth, out in zip(decoder_depths, outputs, strict=True)
        )
        if sincos_positions:
            sincos_start(trunk.pos_embed)
        self.teacher = copy.deepcopy(trunk).requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "MFM":
        """As usual, but the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    @torch.no_grad()
    def after_step(self, epoch: float) -> None:
        """Move the teacher towards the trunk, and the factor of its losses along its schedule."""
        self.feature_factor.fill_(value_at(self.feature_schedule, epoch))
        momentum = value_at(self.momentum, epoch)
        pairs = zip(self.teacher.parameters(), self.backbone.trunk.parameters(), strict=True)
        for own, new in pairs:
            own.lerp_(new, 1 - momentum)

    @torch.no_grad()
    def targets(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Normalised image to the teacher's stages, ``(B, N, C)`` per patch; with ``teacher_input="masked"``
        visible patches have zeros, which no loss reads. The mask is best on the CPU, as drawn."""
        count = mask.shape[1]
        chosen = torch.arange(count, device=image.device).expand(len(mask), -1)
        if self.teacher_input == "masked":
            chosen = upload(visible_patches(~mask), image.device)
        stages = trunk_visible(self.teacher, image, chosen)
        found = {}
        for name, x in zip(reversed(STAGES), stages, strict=True):
            flat = self._normalised(x.float()).flatten(2)
            full = flat.new_zeros(len(flat), count, flat.shape[-1])
            found[name] = full.scatter(1, chosen[..., None].expand_as(flat), flat)
        return found

    def _normalised(self, x: Tensor) -> Tensor:
        """Units ``(B, N, h, w, C)`` of a stage, as the target norm says."""
        if self.target_norm == "token":
            return F.layer_norm(x, x.shape[-1:])
        variance, mean = torch.var_mean(x, (1, 2, 3), correction=0, keepdim=True)
        return (x - mean) * (variance + 1e-6).rsqrt()

    def predict_tokens(self, image: Tensor, visible: Tensor) -> dict[str, Tensor]:
        """Normalised image and visible places ``(B, K)`` to predictions by name, ``(B, N, width)``."""
        grid = token_grid(image, 16)
        terms = self.fusion(encode_visible(self.backbone, image, visible).levels)
        found: dict[str, Tensor] = {}
        tokens: Tensor | float = 0.0
        for name, term, fill, decoder in zip(STAGES, terms, self.fills, self.decoders, strict=True):
            tokens = tokens + term
            outputs = decoder(fill(tokens, visible, grid[0] * grid[1]), grid)
            found[name] = outputs[0]
            if len(outputs) > 1:
                found["pixels"] = outputs[1]
        return found

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """``loss_pixels`` and ``loss_stage1..3``, already weighted: mean squared errors over masked patches;
        with ``visible_weight`` also ``loss_visible``, of the pixels of the others.

        ``batch`` may have ``mask`` ``(B, N)`` bool, True = masked, to be used instead of a random one.
        """
        image = self.normalise(batch["image"])
        drawn = draw_mask(self.masking, image, batch)
        mask = upload(drawn, image.device)
        predictions = self.predict_tokens(image, upload(visible_patches(drawn), image.device))
        targets = self.targets(image, drawn)
        losses = {}
        if self.pixel_weight:
            targets["pixels"] = self.target.tokens(image, 16)
        for name, target in targets.items():
            weight = self.pixel_weight if name == "pixels" else self.feature_factor * self.weights[name]
            error = (predictions[name].float() - target).square().mean(-1)
            losses[f"loss_{name}"] = weight * masked_mean(error, mask)
            if name == "pixels" and self.visible_weight:
                losses["loss_visible"] = self.visible_weight * masked_mean(error, ~mask)
        return losses

    @torch.no_grad()
    def predict(self, batch: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`.base.Method.predict`: the pixels, or stage 3 where pixels are left out."""
        image = self.normalise(batch["image"])
        mask = draw_mask(self.masking, image, batch)
        predictions = self.predict_tokens(image, upload(visible_patches(mask), image.device))
        pixels = self.pixel_weight > 0
        target = self.target.tokens(image, 16) if pixels else self.targets(image, mask)["stage3"]
        return {
            "image": batch["image"],
            "mask": mask.unflatten(1, token_grid(image, 16)),
            "prediction": predictions["pixels" if pixels else "stage3"].float(),
            "target": target,
            "stride": 16,
            "kind": "pixels" if pixels else "features",
        }
