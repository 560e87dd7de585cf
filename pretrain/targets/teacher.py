"""A frozen CLIP image tower, whose patch features are what masked tokens have to predict."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import Teacher
from .towers import build_open_clip, build_timm, random_projection, read_tower_weights

# CLIP's statistics, RGB, 0..255: (0.48145466, 0.4578275, 0.40821073) and (0.26862954, 0.26130258,
# 0.27577711) of images in 0..1, as published with it.
CLIP_MEAN = (122.7709383, 116.7460125, 104.09373615)
CLIP_STD = (68.5005327, 66.6321579, 70.32316305)
_NORM_EPS = 1e-5


class CLIPTeacher(Teacher):
    """Images ``(B, 3, T, T)`` in RGB, 0..255, to patch features ``(B, N, dim)``; never trained or saved.

    The state dict of a module that holds a teacher has no trace of it, and loads strictly without: the
    weights are large and constant, and come from their own file at every start. Copies of such a module
    (moving averages) share the teacher.

    Args:
        name: model of the library ``source``. With OpenAI's weights, whose activation is QuickGELU,
            ``vit_base_patch16_clip_quickgelu_224``, ``vit_large_patch14_clip_quickgelu_224``, or in open_clip
            ``ViT-B-16-quickgelu``, ...; with those of LAION-2B or DataComp ``vit_base_patch16_clip_224``, or
            ``ViT-B-16``, ... (see :mod:`.activation`).
        weights: a local file, .safetensors or torch, with the tower or the whole CLIP model. Nothing is
            ever downloaded. OpenAI's own download is a TorchScript program, which is not run: take its
            tensors as .safetensors, as the model hubs have them.
        source: library that builds the tower; timm reads open_clip's and OpenAI's files too.
        image_size: side T in pixels, default: the model's own. Positions are resampled to it. T over the
            patch size has to be the student's grid: 196 with patches of 14 for a student at 224.
        features: ``tokens``: after the last norm (Fast-iTPN); ``projected``: and then projected to the
            embedding that images and texts share (iTPN v1). The class token is left out.
        normalise: LayerNorm without parameters, eps 1e-5, on top (iTPN v1).
        pixel_mean, pixel_std: statistics of the images in 0..255; CLIP's own.
        random: weights from a fixed seed instead of a file: for tests and dry runs, useless as a target.
        options: more arguments for timm's constructor, for towers of other sizes.

    Attributes:
        dim: width of a feature.
        grid: rows and columns of tokens.
        image_size: (T, T).

    Raises:
        ValueError: neither or both of ``weights`` and ``random``; an unknown choice; a size that patches do
            not fill.
        ImportError: open_clip is not installed.
        CheckpointError: the file can't be used.
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    projection: Tensor | None

    def __init__(
        self,
        name: str,
        weights: str | Path | None = None,
        source: Literal["timm", "open_clip"] = "timm",
        image_size: int | None = None,
        features: Literal["tokens", "projected"] = "tokens",
        normalise: bool = False,
        pixel_mean: Sequence[float] = CLIP_MEAN,
        pixel_std: Sequence[float] = CLIP_STD,
        random: bool = False,
        options: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        if source not in ("timm", "open_clip"):
            raise ValueError(f"source {source!r}: choose timm or open_clip")
        if features not in ("tokens", "projected"):
            raise ValueError(f"features {features!r}: choose tokens or projected")
        if source == "open_clip" and options:
            raise ValueError("options apply only to timm; the towers of open_clip are fixed by their names")
        if weights is None and not random:
            raise ValueError(
                f"teacher {name}: weights=None, but a teacher without weights is useless. Download its "
                "file once (.safetensors is best) and give the path as weights=...; random=True is for "
                "tests"
            )
        if weights is not None and random:
            raise ValueError(f"teacher {name}: weights={str(weights)!r} and random=True exclude each other")
        state = None if weights is None else read_tower_weights(weights)
        origin = "the weights" if weights is None else weights
        # A stream of its own: building a teacher does not shift the random numbers of the method around it.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            if source == "timm":
                tower = build_timm(name, state, image_size, dict(options or {}), origin)
            else:
                tower = build_open_clip(name, state, image_size, origin)
            projection = None
            if features == "projected":
                projection = random_projection(tower.width) if state is None else tower.projection
                if projection is None:
                    raise ValueError(
                        f"features='projected': {weights} has no CLIP projection; features='tokens' needs "
                        "none"
                    )
        self.dim = tower.width if projection is None else projection.shape[1]
        self.grid, self.image_size = tower.grid, (tower.image_size, tower.image_size)
        self.normalise = normalise
        self.tower = tower.module
        self.register_buffer("projection", projection)
        self.register_buffer("pixel_mean", torch.tensor(list(pixel_mean)).view(-1, 1, 1))
        self.register_buffer("pixel_std", torch.tensor(list(pixel_std)).view(-1, 1, 1))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "CLIPTeacher":
        """Stays in evaluation mode, whatever the module around it is told."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """``(B, 3, T, T)``, uint8 or float in 0..255 (not 0..1), to float32 ``(B, N, dim)``, N row-major.

        The tower runs in autocast's type where that is on.

        Raises:
            ValueError: another size than ``image_size``.
        """
        if image.shape[1:] != (3, *self.image_size):
            raise ValueError(
                f"the teacher takes images (B, 3, {self.image_size[0]}, {self.image_size[1]}), "
                f"not {tuple(image.shape)}: set the data's teacher size, or the teacher's image_size"
            )
        dtype = next(self.tower.parameters()).dtype
        features = self.tower(((image.float() - self.pixel_mean) / self.pixel_std).to(dtype))
        if self.projection is not None:
            features = features @ self.projection.to(features.dtype)
        features = features.float()
        return F.layer_norm(features, (self.dim,), eps=_NORM_EPS) if self.normalise else features

    def state_dict(self, *args: Any, destination: Any = None, **kwargs: Any) -> Any:
        """Nothing of its own, whoever asks."""
        return OrderedDict() if destination is None else destination

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        # Strict loading looks for every parameter by name: here it finds the teacher's own, unchanged.
        state_dict.update({prefix + name: tensor for name, tensor in self._own().items()})
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _own(self) -> Mapping[str, Tensor]:
        return super().state_dict()

    def __deepcopy__(self, memo: dict[int, Any]) -> "CLIPTeacher":
        memo[id(self)] = self
        return self
