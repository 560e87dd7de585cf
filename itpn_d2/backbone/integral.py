"""Trunk and pyramid as one module: the same names in pre-training, in every detector and in a checkpoint."""

from torch import Tensor, nn

from ..layers import ImageSizes, content_sizes
from ..layers.recording import is_recorded
from .checkpointing import CheckpointingSpec, set_checkpointing
from .padding import pad_to_multiple
from .pyramid import STRIDES, IntegralPyramid
from .trunk import GatheringSpec, MigrationSpec, Trunk


class IntegralBackbone(nn.Module):
    """A trunk with its feature pyramid, in plain PyTorch: ``(B, C, H, W) -> {"p2": ..., "p6": ...}``, strides
    4..64; p7 (stride 128) is computed if ``out_features`` names it.

    Any H and W: the image is zero-padded to multiples of ``size_divisibility``. Padding is not content: see
    ``image_sizes`` of :meth:`forward`.

    Args:
        trunk, pyramid: the two halves.
        out_features: the levels to return; without p2 the pyramid does not compute it.
        freeze_at: 0 nothing; 1 patch embedding; 2, 3, 4 also stage 1, 2, 3 with the merge before it (4
            includes the position embedding and the final norm). The pyramid is never frozen.
        checkpointing: blocks that are recomputed in the backward pass; see :meth:`set_grad_checkpointing`.
        mask_padding: padding is neither attended to nor given positions. False: it is, as in the reference
            detectors, whatever ``image_sizes`` contains; padding that this module adds itself is masked in
            any case.
        square_size: side to pad a training image to (Detectron2 HEAD's ``padding_constraints``), 0 for none.
        migration, gathering: where given, replace the trunk's; see :meth:`Trunk.accelerate`.

    Raises:
        ValueError: ``out_features`` is empty, or names a level that there is not.
    """

    size_divisibility = 32

    def __init__(
        self,
        trunk: Trunk,
        pyramid: IntegralPyramid,
        out_features: tuple[str, ...] = ("p2", "p3", "p4", "p5", "p6"),
        freeze_at: int = 0,
        checkpointing: CheckpointingSpec = (),
        mask_padding: bool = True,
        square_size: int = 0,
        migration: MigrationSpec = None,
        gathering: GatheringSpec = None,
    ):
        super().__init__()
        unknown = set(out_features) - set(STRIDES)
        if unknown or not out_features:
            raise ValueError(f"out_features {tuple(out_features)}: choose from {', '.join(STRIDES)}")
        self.trunk = trunk
        self.pyramid = pyramid
        self.mask_padding = mask_padding
        self._out_features = list(out_features)
        self._square_size = square_size
        pyramid.has_p7 = "p7" in out_features
        if "p2" not in out_features:
            pyramid.leave_out_p2()
        if migration is not None or gathering is not None:
            self.trunk.accelerate(migration, gathering)
        self.set_grad_checkpointing(checkpointing)
        self.freeze(freeze_at)

    @property
    def padding_constraints(self) -> dict[str, int]:
        """The padding constraints that Detectron2's main branch reads from a backbone."""
        return {"size_divisibility": self.size_divisibility, "square_size": self._square_size}

    def set_grad_checkpointing(self, spec: CheckpointingSpec = True) -> None:
        """Choose the blocks whose activations are recomputed in the backward pass: see
        :func:`~itpn_d2.backbone.checkpointing.set_checkpointing`; the parts are ``stage1`` to ``stage3`` and
        ``pyramid``."""
        set_checkpointing({**self.trunk.blocks(), "pyramid": self.pyramid.blocks()}, spec)

    def freeze(self, freeze_at: int) -> None:
        """Stop the gradient of the first parts of the trunk; see the class docstring.

        Raises:
            ValueError: the trunk has fewer parts.
        """
        t = self.trunk
        parts: list[list[nn.Module | nn.Parameter | None]] = [
            [t.patch_embed],
            [t.stage1],
            [t.merge1, t.stage2],
            [t.merge2, t.pos_embed, t.stage3, t.norm, t.migration, t.gathering],
        ]
        if not 0 <= freeze_at <= len(parts):
            raise ValueError(f"freeze_at {freeze_at}: choose 0 to {len(parts)}")
        for part in parts[:freeze_at]:
            for item in part:
                if item is not None:
                    item.requires_grad_(False)

    def top_down(self, images: Tensor) -> tuple[Tensor, ...]:
        """``(B, C, H, W)``, all of it content, H and W multiples of 16, to p4, p3, p2: channel-last maps at
        strides 16, 8, 4."""
        return self.pyramid.top_down(*self.trunk(images))

    def forward(self, images: Tensor, image_sizes: ImageSizes | None = None) -> dict[str, Tensor]:
        """Features of a batch.

        Args:
            images: ``(B, C, H, W)``, normalised, padded at the right and bottom.
            image_sizes: (height, width) of each image in pixels without padding, as integers or as a tensor
                ``(B, 2)``; ``()`` says that no image is padded. A compiled, traced or exported graph takes
                the tensor and serves all sizes; with integers, a new graph is recorded for each combination
                of sizes. Without it, as in calls by Detectron2's own meta-architectures, zero padding is
                searched for in the tensor, but not while a graph is recorded: then everything counts as
                image.

        Raises:
            ValueError: ``image_sizes`` does not have one entry per image.
        """
        size = images.shape[-2:]
        images = pad_to_multiple(images, self.size_divisibility)
        if not self.mask_padding:
            image_sizes = ()
        elif image_sizes is None:
            image_sizes = () if is_recorded(images) else content_sizes(images)
        if not isinstance(image_sizes, Tensor) and len(image_sizes) == 0 and images.shape[-2:] != size:
            image_sizes = [(size[0], size[1])] * images.shape[0]
        features = self.pyramid(*self.trunk(images, image_sizes))
        return {name: features[name] for name in self._out_features}
