"""Feature distillation of Fast-iTPN (TPAMI'24): masked patches predict a teacher's tokens."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from itpn_d2.backbone import FastITPN, IntegralBackbone
from itpn_d2.layers import upload
from itpn_d2.normalisation import IMAGENET

from ..encoders import Features, encode_masked_patches
from ..fusion import Form, LevelFusion
from ..initialise import cut_normal, fast_itpn_start, xavier_normal_linear
from ..masking import BlockMasking, Masking
from ..targets.base import Teacher, token_grid
from .base import Method, masked_mean
from .pixel_mim import draw_mask


class FeatureDistillation(Method):
    """A token replaces all embedded cells of a masked patch, so that no lateral leaks it; the sum of the
    three pyramid levels, normed, predicts the teacher's token of every masked patch.

    Args:
        backbone: trunk and pyramid.
        teacher: maps RGB in 0..255 to tokens ``(B, N, dim)`` (:class:`~pretrain.targets.CLIPTeacher`); None
            when every batch brings its ``target``.
        teacher_dim: width of the target, needed without a teacher.
        masking: block-wise; 75 of 196 patches by default.
        stem_gradient: factor on the gradient of the patch embedding (0.1 in the reference's launcher).
        init: ``reference`` overwrites the weights of a Fast-iTPN backbone and the head's
            (:mod:`pretrain.initialise`); another trunk, for which there is no reference, keeps its own.
            ``plain`` leaves the backbone as it came, and the head as PyTorch makes it.

    Raises:
        ValueError: ``init`` is unknown.
    """

    def __init__(
        self,
        backbone: IntegralBackbone,
        teacher: Teacher | None = None,
        teacher_dim: int | None = None,
        masking: Masking | None = None,
        fusion: Form = "patches",
        stem_gradient: float = 1.0,
        norm_eps: float = 1e-6,
        init: Literal["reference", "plain"] = "reference",
        pixel_mean: Sequence[float] = IMAGENET.mean,
        pixel_std: Sequence[float] = IMAGENET.std,
    ):
        super().__init__(pixel_mean, pixel_std)
        if init not in ("reference", "plain"):
            raise ValueError(f"init {init!r}: choose reference or plain")
        trunk = backbone.trunk
        dim = trunk.channels[-1]
        self.backbone = backbone
        self.teacher = teacher
        self.masking: Masking = BlockMasking(75) if masking is None else masking
        self.stem_gradient = stem_gradient
        self.mask_token = nn.Parameter(torch.empty(4, 4, trunk.channels[0]))
        cut_normal(self.mask_token)
        self.fusion = LevelFusion(backbone.pyramid.fpn_dim, dim, fusion, norm_eps)
        # the reference norms the fused tokens with the trunk's own last norm; v1 has none
        self.own_norm = None if isinstance(trunk.norm, nn.LayerNorm) else nn.LayerNorm(dim, eps=norm_eps)
        self.head = nn.Linear(dim, target_width(teacher, teacher_dim))
        if init == "reference" and isinstance(trunk, FastITPN):
            fast_itpn_start(backbone)
            xavier_normal_linear(self.head)

    def encode(self, image: Tensor, mask: Tensor) -> Features:
        """Normalised image and mask ``(B, N)`` to features of all patches."""
        return encode_masked_patches(self.backbone, image, mask, self.mask_token, self.stem_gradient)

    def decode(self, features: Features) -> Tensor:
        """Predictions ``(B, N, teacher_dim)`` of all patches."""
        norm = self.backbone.trunk.norm if self.own_norm is None else self.own_norm
        return self.head(norm(sum(self.fusion(features.levels))))

    def _run(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        image = self.normalise(batch["image"])
        mask = upload(draw_mask(self.masking, image, batch), image.device)
        target = teacher_tokens(self.teacher, batch, token_grid(image, 16))
        return mask, self.decode(self.encode(image, mask)), target

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """``{"loss_features": ...}``: negative cosine, mean over the masked patches of the batch.

        ``batch`` may have ``mask`` ``(B, N)``, ``target`` ``(B, N, dim)`` and ``teacher_image`` ``(B, 3, T,
        T)``, the same crop at the teacher's size.
        """
        mask, prediction, target = self._run(batch)
        similarity = F.cosine_similarity(prediction.float(), target.float(), dim=-1, eps=1e-8)
        return {"loss_features": masked_mean(-similarity, mask)}

    @torch.no_grad()
    def predict(self, batch: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`.base.Method.predict`."""
        mask, prediction, target = self._run(batch)
        return feature_picture(batch["image"], mask, prediction, target)


def target_width(teacher: Teacher | None, teacher_dim: int | None) -> int:
    """Width of the target; ValueError if nobody says it or two say different things."""
    width = getattr(teacher, "dim", None) if teacher_dim is None else teacher_dim
    if width is None:
        raise ValueError(
            "a method without a teacher needs teacher_dim, the width of the targets in its batches"
        )
    if teacher is not None and width != teacher.dim:
        raise ValueError(f"teacher_dim {teacher_dim}, but the teacher's tokens have {teacher.dim} values")
    return width


def teacher_tokens(teacher: Teacher | None, batch: dict[str, Any], grid: tuple[int, int]) -> Tensor:
    """The batch's ``target``, else the teacher's tokens for its ``teacher_image`` (or ``image``): ``(B, N,
    dim)``.

    Raises:
        ValueError: neither is there, or the teacher's grid is not the student's.
    """
    if batch.get("target") is not None:
        return batch["target"]
    if teacher is None:
        raise ValueError("the batch has no 'target' and the method has no teacher")
    image = batch["image"] if batch.get("teacher_image") is None else batch["teacher_image"]
    size = teacher.image_size
    if image.shape[-2:] != size:
        image = F.interpolate(image.float(), size, mode="bicubic", antialias=True).clamp(0, 255)
    tokens = teacher(image)
    if tokens.shape[1] != grid[0] * grid[1]:
        raise ValueError(
            f"the teacher gives {tokens.shape[1]} tokens at {size[0]}x{size[1]} pixels, the student has "
            f"{grid[0]}x{grid[1]}: change the teacher's image_size or the view's size"
        )
    return tokens


def feature_picture(image: Tensor, mask: Tensor, prediction: Tensor, target: Tensor) -> dict[str, Any]:
    """The result of ``predict`` of a method whose target are features at stride 16.

    Args:
        image: ``(B, 3, H, W)``.
        mask: ``(B, N)``, True where a patch is masked.
        prediction, target: ``(B, N, dim)``.
    """
    return {
        "image": image,
        "mask": mask.unflatten(1, token_grid(image, 16)),
        "prediction": prediction.float(),
        "target": target.float(),
        "stride": 16,
        "kind": "features",
    }
