"""CLIP image towers of two libraries, brought to one form and filled from local files only.

The shape of a tower comes from timm or open_clip; its weights from timm's own files, from open_clip's or
OpenAI's checkpoints (image tower alone or the whole CLIP), or from a seed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from itpn_d2.checkpoint import load_state_file, unwrap
from itpn_d2.errors import CheckpointError

from .activation import check_activation

# Width of the joint embedding by width of the tower (CLIP B, L, H, g, bigG); for random weights only.
_JOINT = {768: 512, 1024: 768, 1280: 1024, 1408: 1024, 1664: 1280}


@dataclass
class Tower:
    """A CLIP image tower.

    Attributes:
        module: normalised images ``(B, 3, T, T)`` to patch tokens after the last norm ``(B, N, width)``.
        grid: rows and columns of tokens.
        projection: ``(width, joint)`` to the embedding shared with text, None where the weights have none.
    """

    module: nn.Module
    width: int
    image_size: int
    grid: tuple[int, int]
    projection: Tensor | None


class _TimmTokens(nn.Module):
    def __init__(self, vit: nn.Module):
        super().__init__()
        self.vit, self.prefix = vit, int(vit.num_prefix_tokens)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        return self.vit.forward_features(image)[:, self.prefix :]  # type: ignore[operator]


class _OpenCLIPTokens(nn.Module):
    def __init__(self, vit: nn.Module):
        super().__init__()
        self.vit = vit

    def forward(self, image: Tensor) -> Tensor:
        return self.vit(image)[1]  # (pooled and projected, patch tokens)


def read_tower_weights(weights: str | Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint in float32; an OpenAI tower on its own gets the ``visual.`` that it has in a
    whole CLIP.

    Raises:
        CheckpointError: see :func:`itpn_d2.checkpoint.load_state_file`.
    """
    state = unwrap(load_state_file(weights))
    return {f"visual.{k}": v for k, v in state.items()} if "class_embedding" in state else state


def build_timm(
    name: str,
    state: dict[str, Tensor] | None,
    image_size: int | None,
    options: dict[str, Any],
    origin: str | Path = "the weights",
) -> Tower:
    """The tower ``name`` of timm, filled from ``state``, the content of the file ``origin``; with None it is
    left at its random start.

    Raises:
        ValueError: unknown name, no CLIP tower, or a size that the patches do not fill.
        CheckpointError: the weights belong to another tower, or to one of another activation.
    """
    import timm
    from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

    if not timm.is_model(name):
        raise ValueError(f"name {name!r}: timm has no such model; vit_large_patch14_clip_224 is one")
    if image_size is not None:
        options = {"img_size": image_size, **options}
    vit = timm.create_model(name, pretrained=False, num_classes=0, **options)
    # the norm before the first block is what sets CLIP's towers apart from other ViTs
    if not isinstance(vit, VisionTransformer) or isinstance(vit.norm_pre, nn.Identity):
        raise ValueError(f"name {name!r}: not a CLIP image tower; choose one of timm's vit_*_clip_* models")
    size, patch = vit.patch_embed.img_size[0], vit.patch_embed.patch_size[0]
    _check_size(name, size, patch)
    projection = None
    if state is not None:
        check_activation(vit, state, origin, _other_activation(name))
        given = checkpoint_filter_fn(dict(state), vit)
        projection = given.pop("head.weight", None)
        bias = given.pop("head.bias", None)
        if projection is not None:
            # CLIP projects without bias; with one it is a classifier that somebody fine-tuned
            projection = None if bias is not None and bool(bias.any()) else projection.T.contiguous()
        _fill(vit, given, name)
    return Tower(_TimmTokens(vit), vit.num_features, size, tuple(vit.patch_embed.grid_size), projection)


def _other_activation(name: str) -> str:
    """timm's name of the same tower with the other activation."""
    import timm

    quick = "_quickgelu" in name
    other = name.replace("_quickgelu", "") if quick else name.replace("_clip_", "_clip_quickgelu_", 1)
    known = other != name and timm.is_model(other.split(".")[0])
    return other if known else "its variant of that activation"


def build_open_clip(
    name: str,
    state: dict[str, Tensor] | None,
    image_size: int | None,
    origin: str | Path = "the weights",
) -> Tower:
    """The image tower of open_clip's model ``name``, such as ``ViT-L-14``; otherwise as :func:`build_timm`.

    Raises:
        ImportError: open_clip is not installed.
        ValueError: unknown name, a tower of another library, no ViT, or a size that the patches do not fill.
        CheckpointError: as :func:`build_timm`.
    """
    try:
        import open_clip
        from open_clip.transformer import VisionTransformer
    except ImportError as error:
        raise ImportError(
            "source='open_clip' needs a package that is not installed: pip install open_clip_torch "
            "(source='timm' does not need it, and reads the same checkpoints)"
        ) from error
    config = open_clip.get_model_config(name) if name in open_clip.list_models() else None
    if config is None:
        raise ValueError(f"name {name!r}: open_clip has no such model; ViT-L-14 is one")
    if "timm_model_name" in config["vision_cfg"] or "hf_model_name" in config["text_cfg"]:
        raise ValueError(f"name {name!r}: its towers belong to another library; choose source='timm'")
    size = image_size or int(config["vision_cfg"].get("image_size", 224))
    clip = open_clip.create_model(name, load_weights=False, pretrained_text=False, force_image_size=size)
    vit = clip.visual
    if not isinstance(vit, VisionTransformer):
        raise ValueError(f"name {name!r}: not a ViT; choose one of open_clip's ViT-* models")
    _check_size(name, size, vit.patch_size[0])
    if state is not None:
        quick = name.endswith("-quickgelu")
        other = name.removesuffix("-quickgelu") if quick else f"{name}-quickgelu"
        check_activation(vit, state, origin, other)
        given = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
        _fill(vit, _with_positions(given, vit.grid_size), name)
    vit.output_tokens = True
    projection = None if vit.proj is None else vit.proj.detach().clone()
    return Tower(_OpenCLIPTokens(vit), vit.ln_post.normalized_shape[0], size, vit.grid_size, projection)


def random_projection(width: int) -> Tensor:
    """``(width, joint)`` drawn as CLIP starts its own; of the published size where the width is."""
    return torch.randn(width, _JOINT.get(width, width)) * width**-0.5


def _with_positions(state: dict[str, Tensor], grid: tuple[int, int]) -> dict[str, Tensor]:
    """Resample open_clip's table ``(1 + N, C)`` as timm does its own."""
    from timm.layers import resample_abs_pos_embed

    table = state.get("positional_embedding")
    if table is None or len(table) == 1 + grid[0] * grid[1]:
        return state
    return {**state, "positional_embedding": resample_abs_pos_embed(table[None], list(grid))[0]}


def _check_size(name: str, size: int, patch: int) -> None:
    if size % patch:
        near = max(1, round(size / patch)) * patch
        raise ValueError(f"image_size {size}: {name} cuts patches of {patch} pixels; choose e.g. {near}")


def _fill(vit: nn.Module, given: dict[str, Tensor], name: str) -> None:
    own = vit.state_dict()
    wrong = [f"{k} is missing" for k in own if k not in given]
    wrong += [f"{k} is unknown" for k in given if k not in own]
    wrong += [
        f"{k} is {tuple(given[k].shape)} instead of {tuple(v.shape)}"
        for k, v in own.items()
        if k in given and given[k].shape != v.shape
    ]
    if wrong:
        raise CheckpointError(
            f"the weights do not fit {name}: {'; '.join(wrong[:3])}"
            + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
            + ". Give a file of exactly this tower, in the layout of timm, open_clip or OpenAI"
        )
    vit.load_state_dict(given)
