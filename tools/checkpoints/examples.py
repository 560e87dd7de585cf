"""Small files in every public layout, the models they go into, and files that are refused.

Sizes are those of ``layout_names``: channels 8, 16, 32, blocks 1, 1, 2, two heads, a grid of 4x4.
"""

import argparse
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from checkpoints.names import (
    CHANNELS,
    DEPTHS,
    SIDE,
    Name,
    classifier_names,
    fast_names,
    fastmim_state,
    filled,
    pyramid_names,
    v1_names,
)
from itpn_d2 import create_model
from itpn_d2.backbone import TimmBackbone
from pretrain.encoders import TimmEncoder
from pretrain.methods import FastMIM

SIZES: dict[str, Any] = dict(channels=CHANNELS, depths=DEPTHS, num_heads=2, pos_grid=(SIDE, SIDE))
VIT: dict[str, Any] = dict(img_size=64, patch_size=16, embed_dim=16, depth=2, num_heads=2, num_classes=0)
SWIN: dict[str, Any] = dict(
    img_size=64, patch_size=4, window_size=4, embed_dim=8, depths=(1, 2), num_heads=(1, 2), num_classes=0
)
CONVNEXT: dict[str, Any] = dict(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32))
_DEFAULTS: dict[Any, dict[str, Any]] = {
    TimmBackbone: {"options": CONVNEXT},
    create_model: SIZES,
    VisionTransformer: VIT,
    SwinTransformer: SWIN,
}
Content = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """A file, and the call that builds the model it is loaded into."""

    title: str
    file: str
    content: Callable[[], Content]
    model: "partial[nn.Module]"

    def write(self, folder: Path) -> Path:
        """The file in ``folder``."""
        path = folder / self.file
        if path.suffix == ".safetensors":
            save_file(self.content(), path)
        else:
            torch.save(self.content(), path)
        return path

    def call(self) -> str:
        """The call, without the sizes that all share."""
        shared = _DEFAULTS[self.model.func]
        named = {k: v for k, v in self.model.keywords.items() if shared.get(k, None) != v}
        words = [*map(repr, self.model.args), *(f"{k}={v!r}" for k, v in named.items())]
        return f"{self.model.func.__name__}({', '.join(words)})"


@dataclass(frozen=True)
class Refusal:
    """A file that a trunk of Fast-iTPN does not take."""

    title: str
    file: str
    write: Callable[[Path], None]


def _ours(name: str, **options: Any) -> "partial[nn.Module]":
    return partial(create_model, name, **{**SIZES, **options})


def _beside_the_weights() -> Content:
    """What the references' fine-tuning leaves in its files."""
    arguments = argparse.Namespace(lr=1e-4, output_dir=Path("output"))
    return {"optimizer": {"state": {}, "param_groups": []}, "epoch": 99, "args": arguments}


def _fast_pretraining() -> Content:
    names = [*fast_names(), ("norm.", (32,)), *pyramid_names(CHANNELS, 24, 1, 64, conv=True)]
    heads: list[Name] = [("mask_token", (1, 1, 128)), ("lm_head.", (6, 32))]
    state = {k: v.half() for k, v in filled(names + heads).items()}
    return {"module": state, "ds_config": {"train_batch_size": 8}, "global_steps": 7}


def _fast_classifier() -> Content:
    return {"model": filled(fast_names() + classifier_names(classes=21)), **_beside_the_weights()}


def _itpn_pixel() -> Content:
    heads: list[Name] = [("mask_token", (1, 1, 32)), ("decoder_pos_embed", (1, 16, 32))]
    return {"model": filled(v1_names() + pyramid_names(CHANNELS, 32, 2, 128, conv=False) + heads)}


def _itpn_clip() -> Content:
    names = v1_names(gammas=True, rpe=True) + pyramid_names(CHANNELS, 24, 1, 96, conv=False)
    return {"model": filled([*names, ("lm_cls_head.", (6, 32))]), **_beside_the_weights()}


def _hivit() -> Content:
    return {"model": filled(v1_names(depths=(2, 2, 2)) + classifier_names())}


def _mmpretrain() -> Content:
    state = {f"backbone.{k}": v for k, v in filled(v1_names(depths=(2, 2, 2), pos="pos_embed")).items()}
    neck = pyramid_names(CHANNELS, 24, 2, 96, conv=False)
    state |= {f"neck.{k}": v for k, v in filled([*neck, ("decoder_embed.0.0.", (24,))]).items()}
    return {"meta": {"epoch": 400}, "state_dict": {**state, "head.head.weight": torch.zeros(6, 32)}}


def _fastmim_vit() -> Content:
    return {"model": fastmim_state(VisionTransformer(**VIT), "")}


def _fastmim_swin() -> Content:
    return {"model": fastmim_state(SwinTransformer(**SWIN), "encoder.")}


def _own_fastmim() -> Content:
    """As ``python -m pretrain`` writes it."""
    method = FastMIM(TimmEncoder("convnext_atto", **CONVNEXT), decoder_dim=8, decoder_heads=2)
    state = {k: torch.zeros_like(v) for k, v in method.state_dict().items()}
    return {"model": state, "pretraining": {"method": "FastMIM"}, "trainer": {}, "iteration": 9}


def _six_bands() -> Content:
    return filled(fast_names(bands=6))


EXAMPLES = (
    Example(
        "Fast-iTPN, pre-training: DeepSpeed, half precision, with its pyramid",
        "fast_itpn_tiny_1600e_1k.pt",
        _fast_pretraining,
        _ours("fast_itpn_nano", pyramid=True, fpn_dim=24),
    ),
    Example(
        "Fast-iTPN, fine-tuned, into other classes and a larger image",
        "fast_itpn_tiny_21k.pth",
        _fast_classifier,
        _ours("fast_itpn_nano", num_classes=10, pos_grid=(6, 6)),
    ),
    Example(
        "iTPN pre-trained on pixels, with a wider pyramid than the model's",
        "itpn_base_pixel.pth",
        _itpn_pixel,
        _ours("itpn_nano", pyramid=True, fpn_dim=24, fpn_depth=1),
    ),
    Example(
        "iTPN pre-trained on CLIP: layer scale and relative positions, into a larger grid",
        "itpn_base_clip.pth",
        _itpn_clip,
        _ours(
            "itpn_nano",
            pyramid=True,
            fpn_dim=24,
            fpn_depth=1,
            layer_scale=0.1,
            rel_pos="table",
            pos_grid=(6, 6),
        ),
    ),
    Example(
        "Supervised HiViT, loaded as a trunk",
        "hivit_base.pth",
        _hivit,
        _ours("itpn_nano", depths=(2, 2, 2)),
    ),
    Example(
        "mmpretrain's iTPN: trunk and pyramid stored separately, twice the blocks of stages 1 and 2",
        "itpn-pixel_hivit-base-p16_8xb512-amp-coslr-800e_in1k.pth",
        _mmpretrain,
        _ours("itpn_nano", pyramid=True, fpn_dim=24, fpn_depth=2, depths=(2, 2, 2)),
    ),
    Example(
        "FastMIM's ViT into timm's, with smaller patches, a larger grid and one band",
        "vit_base_fastmim_hog_800e_pretrain.pth",
        _fastmim_vit,
        partial(VisionTransformer, **{**VIT, "img_size": 48, "patch_size": 8, "in_chans": 1}),
    ),
    Example(
        "FastMIM's Swin into timm's, with larger windows",
        "swin_base_fastmim_hog_400e_pretrain.pth",
        _fastmim_swin,
        partial(SwinTransformer, **{**SWIN, "img_size": 96, "window_size": 6}),
    ),
    Example(
        "This project's FastMIM over a ConvNeXt of timm, into a detector's backbone",
        "model_final.pth",
        _own_fastmim,
        partial(TimmBackbone, "convnext_atto", options=CONVNEXT),
    ),
    Example(
        "safetensors with six input bands, into three",
        "six_bands.safetensors",
        _six_bands,
        _ours("fast_itpn_nano"),
    ),
)


class _Attack:
    """Unpickled, it makes a folder."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("trap",)


def _whole(path: Path) -> None:
    torch.save({"model": filled(fast_names())}, path)


def _cut(path: Path) -> None:
    _whole(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _changed(path: Path) -> None:
    _whole(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _compressed(path: Path) -> None:
    _whole(path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def _page(path: Path) -> None:
    path.write_text("<html>")


def _views(path: Path) -> None:
    table = torch.zeros(1, 1, 1).expand(1, 20000, 20000)
    torch.save({"model": {**filled(fast_names()), "pos_embed": table}}, path)


def _without(name: str) -> list[Name]:
    return [n for n in fast_names() if n[0] != name]


def _saved(content: Callable[[], Any]) -> Callable[[Path], None]:
    return lambda path: torch.save(content(), path)


REFUSALS = (
    Refusal("cut off", "cut.pth", _cut),
    Refusal("one bit changed", "changed.pth", _changed),
    Refusal("contains code", "code.pth", _saved(lambda: {"model": filled(fast_names()), "x": _Attack()})),
    Refusal("compressed, as a decompression bomb would be", "compressed.pth", _compressed),
    Refusal("a few numbers viewed as many", "views.pth", _views),
    Refusal("not a dict", "list.pth", _saved(lambda: [torch.zeros(3)])),
    Refusal("not a torch file", "page.pth", _page),
    Refusal("another network", "resnet.pth", _saved(lambda: {"conv1.weight": torch.zeros(8, 3, 7, 7)})),
    Refusal("another size", "large.pth", _saved(lambda: filled(fast_names((16, 32, 64))))),
    Refusal("iTPN, not Fast-iTPN", "itpn.pth", _saved(lambda: filled(v1_names()))),
    Refusal("more blocks", "deep.pth", _saved(lambda: filled(fast_names(depths=(1, 1, 3))))),
    Refusal("a network of timm", "vit.pth", _saved(_fastmim_vit)),
    Refusal("a tensor is missing", "part.pth", _saved(lambda: filled(_without("blocks.5.norm1.")))),
)
