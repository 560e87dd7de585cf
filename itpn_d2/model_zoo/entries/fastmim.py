"""FastMIM over the networks of its paper (2022): timm's ViT and Swin, and a convolutional network."""

from ..entry import IMAGENET, Entry, Weights
from .metrics import top1

_README = "FastMIM repository, README"


def _official(file: str) -> Weights:
    return Weights(
        file,
        publisher="the authors: the links are in the README of the FastMIM repository",
        licence="not stated for the files; the code has an MIT badge and parts of MAE (CC-BY-NC 4.0)",
    )


ENTRIES = (
    Entry(
        "Pretrain/fastmim_hog_vit_base.py",
        "pretraining",
        IMAGENET,
        "HOG at 128 pixels, 800 epochs of ImageNet-1K",
        weights=_official("vit_base_fastmim_hog_800e_pretrain.pth"),
        metrics=top1(83.8, _README, "after fine-tuning"),
        note="The authors pre-trained with 6 heads, which no shape shows, and fine-tuned with 12.",
    ),
    Entry(
        "Pretrain/fastmim_hog_swin_base.py",
        "pretraining",
        IMAGENET,
        "HOG at 128 pixels, 400 epochs of ImageNet-1K",
        weights=_official("swin_base_fastmim_hog_400e_pretrain.pth"),
        metrics=top1(84.1, _README, "after fine-tuning"),
    ),
    Entry(
        "Pretrain/fastmim_hog_convnext_base.py",
        "pretraining",
        IMAGENET,
        "HOG at 128 pixels, 400 epochs",
        note="Ours: the paper has no such network.",
    ),
)
