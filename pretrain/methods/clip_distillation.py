"""CLIP distillation of iTPN (CVPR'23): all tokens predict a teacher's, from the pyramid and from within stage
3."""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from itpn_d2.backbone import ITPN, IntegralBackbone
from itpn_d2.backbone.trunk import init_linears
from itpn_d2.layers import upload
from itpn_d2.layers.units import map_to_units
from itpn_d2.normalisation import IMAGENET

from ..fusion import Form, LevelFusion
from ..masking import BlockMasking, Masking
from ..targets.base import Teacher, token_grid
from .base import Method, masked_mean
from .distillation import feature_picture, target_width, teacher_tokens
from .pixel_mim import draw_mask


class CLIPDistillation(Method):
    """Stages 1-2 see everything; a token replaces masked patches before stage 3.

    The main head sits on the sum of the three pyramid levels; an auxiliary one leaves stage 3 after three
    quarters of its blocks and has two attention blocks of its own. As in the reference the laterals show the
    pyramid what is masked.

    Args:
        backbone: v1 trunk (the reference has relative position tables and layer scale) and pyramid.
        teacher, teacher_dim: as in :class:`~pretrain.methods.FeatureDistillation`; the reference's targets
            are projected CLIP tokens after an affine-free LayerNorm.
        aux_after: blocks of stage 3 before the auxiliary branch; None: three quarters of them plus one.
        aux_depth: attention blocks of the branch.
        auxiliary: without it the main head is alone (mmpretrain's form of the method).
        loss: ``smooth_l1``, or ``cosine``: the negative cosine of a token and its target (mmpretrain).
        supervised: ``all`` tokens, or the ``masked`` ones (mmpretrain).

    Raises:
        ValueError: an unknown ``loss`` or ``supervised``; ``aux_after`` is no block of stage 3.
        TypeError: the trunk is none of iTPN v1.
    """

    def __init__(
        self,
        backbone: IntegralBackbone,
        teacher: Teacher | None = None,
        teacher_dim: int | None = None,
        masking: Masking | None = None,
        fusion: Form = "cells",
        aux_after: int | None = None,
        aux_depth: int = 2,
        aux_norm_eps: float = 1e-5,
        norm_eps: float = 1e-6,
        pixel_mean: Sequence[float] = IMAGENET.mean,
        pixel_std: Sequence[float] = IMAGENET.std,
        auxiliary: bool = True,
        loss: Literal["smooth_l1", "cosine"] = "smooth_l1",
        supervised: Literal["all", "masked"] = "all",
    ):
        super().__init__(pixel_mean, pixel_std)
        if loss not in ("smooth_l1", "cosine"):
            raise ValueError(f"loss {loss!r}: choose smooth_l1 or cosine")
        if supervised not in ("all", "masked"):
            raise ValueError(f"supervised {supervised!r}: choose all or masked")
        self.loss, self.supervised, self.auxiliary = loss, supervised, auxiliary
        trunk = backbone.trunk
        if not isinstance(trunk, ITPN):
            raise TypeError(f"CLIP distillation is defined for an ITPN trunk, not {type(trunk).__name__}")
        dim, depth = trunk.channels[-1], len(trunk.stage3)
        width = target_width(teacher, teacher_dim)
        self.backbone = backbone
        self.teacher = teacher
        self.masking: Masking = BlockMasking(75) if masking is None else masking
        self.aux_after = int(0.75 * depth) + 1 if aux_after is None else aux_after
        if not 1 <= self.aux_after <= depth:
            raise ValueError(f"aux_after {aux_after}: stage 3 has {depth} blocks")
        self.mask_token = nn.Parameter(torch.empty(1, 1, dim))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.fusion = LevelFusion(backbone.pyramid.fpn_dim, dim, fusion, norm_eps)
        self.norm = nn.LayerNorm(dim, eps=norm_eps)
        self.head = nn.Linear(dim, width)
        if auxiliary:
            self.aux_blocks = nn.ModuleList(_fresh(trunk.stage3[0], aux_norm_eps) for _ in range(aux_depth))
            self.aux_norm = nn.LayerNorm(dim, eps=norm_eps)
            self.aux_head = nn.Linear(dim, width)

    def predict_tokens(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """Normalised image and mask ``(B, N)`` to the predictions ``(B, N, width)`` of the main head and of
        the auxiliary one, None without it."""
        trunk, grid = self.backbone.trunk, token_grid(image, 16)
        f1, f2, x = trunk.local_stages(map_to_units(trunk.patch_embed(image), 4))
        tokens = x.flatten(1, 3)
        tokens = torch.where(mask[..., None], self.mask_token.to(tokens.dtype), tokens)
        tokens = tokens + trunk.positions(grid).flatten(1, 2)
        aux = tokens
        for number, block in enumerate(trunk.stage3, 1):
            tokens = block(tokens, None, grid)
            if number == self.aux_after:
                aux = tokens
        levels = self.backbone.pyramid.top_down(f1, f2, trunk.norm(tokens)[:, :, None, None])
        main = self.head(self.norm(sum(self.fusion(levels))))
        if not self.auxiliary:
            return main, None
        for block in self.aux_blocks:
            aux = block(aux, None, grid)
        return main, self.aux_head(self.aux_norm(aux))

    def _run(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        image = self.normalise(batch["image"])
        mask = upload(draw_mask(self.masking, image, batch), image.device)
        target = teacher_tokens(self.teacher, batch, token_grid(image, 16)).float()
        return mask, *self.predict_tokens(image, mask), target

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """``loss_features`` and, with the auxiliary head, ``loss_aux``.

        ``batch`` as in :meth:`FeatureDistillation.forward <pretrain.methods.FeatureDistillation.forward>`.

        Returns:
            Scalars.
        """
        mask, main, aux, target = self._run(batch)
        losses = {"loss_features": self._error(main, target, mask)}
        if aux is not None:
            losses["loss_aux"] = self._error(aux, target, mask)
        return losses

    def _error(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Of predictions and targets ``(B, N, width)``, as ``loss`` and ``supervised`` say."""
        if self.loss == "cosine":
            error = -F.cosine_similarity(prediction.float(), target, dim=-1)
        else:
            error = F.smooth_l1_loss(prediction.float(), target, reduction="none").mean(-1)
        return error.mean() if self.supervised == "all" else masked_mean(error, mask)

    @torch.no_grad()
    def predict(self, batch: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`.base.Method.predict`."""
        mask, main, _, target = self._run(batch)
        return feature_picture(batch["image"], mask, main, target)


def _fresh(block: nn.Module, norm_eps: float) -> nn.Module:
    """A block like this untrained one, with weights of its own."""
    new = copy.deepcopy(block)
    for module in new.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = norm_eps
    init_linears(new)
    return new
