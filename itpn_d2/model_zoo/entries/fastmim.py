"""FastMIM over the networks of its paper (2022), timm's ViT and Swin, and a convolutional network; and what
is fine-tuned from it."""

from ...data.scenes import CLASSES
from ...normalisation import IMAGENET
from ..entry import Entry, Task, Weights
from .metrics import top1

_README = "FastMIM repository, README"


_RELEASES = "https://github.com/ggjy/FastMIM.pytorch/releases/download"


def _official(file: str, release: str = "release-cls", holds: str = "pre-training") -> Weights:
    return Weights(
        file,
        publisher="the authors of FastMIM: releases of their repository",
        licence="not stated for the files; the code has an MIT badge and parts of MAE (CC-BY-NC 4.0)",
        url=f"{_RELEASES}/{release}/{file}",
        holds=holds,
    )


VIT = _official("vit_base_fastmim_hog_800e_pretrain.pth")
SWIN = _official("swin_base_fastmim_hog_400e_pretrain.pth")
VIT_CLASSIFIER = _official("vit_base_fastmim_hog_800e_finetune_100e.pth", holds="classifier")
SWIN_CLASSIFIER = _official("swin_base_fastmim_hog_400e_finetune_100e.pth", holds="classifier")
VIT_SEGMENTOR_START = _official("vit_base_fastmim_finetune.pth", "release-seg", "classifier")
# networks without a config here, and detectors of mmdetection and mmsegmentation
OTHER_WEIGHTS = (
    VIT_SEGMENTOR_START,
    _official("pvtv2_b2_fastmim_pixel_800e_finetune.pth", holds="classifier"),
    _official("cmt_small_fastmim_hog_800e_finetune_83.9.pth", holds="classifier"),
    _official("swin_base_simmim_3x.pth", "release-det", "detector"),
    _official("swin_base_fastmim_3x.pth", "release-det", "detector"),
    _official("vit_base_ade20k_mIoU49.45.pth", "release-seg", "segmentor"),
)
_ON_VIT = "FastMIM: HOG at 128 pixels, 800 epochs"
_ON_SWIN = "FastMIM: HOG at 128 pixels, 400 epochs"
_CLASSIFIED = "and 100 epochs of classification"
_OWN = "For your own data, from which the classes are taken."
_OURS = "The recipe is ours: FastMIM has no such model."
_SCENES = "Uses generated scenes, so there is nothing to download. The size is ours."
# network, task, what it starts from
_CUSTOM: tuple[tuple[str, Task, str, Weights | None], ...] = (
    ("mask_rcnn_swin_base", "instance_segmentation", _ON_SWIN, SWIN),
    ("mask_rcnn_convnext_base", "instance_segmentation", "any of ConvNeXt", None),
    ("mask_rcnn_vit_base", "instance_segmentation", _ON_VIT, VIT),
    ("upernet_swin_base", "semantic_segmentation", _ON_SWIN, SWIN),
    ("upernet_vit_base", "semantic_segmentation", _ON_VIT, VIT),
    ("classifier_swin_base", "classification", _ON_SWIN, SWIN),
    ("classifier_vit_base", "classification", _ON_VIT, VIT),
)
_QUICK: tuple[tuple[str, Task], ...] = (
    ("mask_rcnn_convnext_atto", "instance_segmentation"),
    ("mask_rcnn_swin_nano", "instance_segmentation"),
    ("upernet_vit_nano", "semantic_segmentation"),
)

ENTRIES = (
    Entry(
        "Pretrain/fastmim_hog_vit_base.py",
        "pretraining",
        IMAGENET,
        "HOG at 128 pixels, 800 epochs of ImageNet-1K",
        weights=VIT,
        metrics=top1(83.8, _README, "after fine-tuning"),
        note="The authors pre-trained with 6 heads and fine-tuned with 12; the shapes do not show this.",
    ),
    Entry(
        "Pretrain/fastmim_hog_swin_base.py",
        "pretraining",
        IMAGENET,
        "HOG at 128 pixels, 400 epochs of ImageNet-1K",
        weights=SWIN,
        metrics=top1(84.1, _README, "after fine-tuning"),
    ),
    Entry(
        "Pretrain/fastmim_hog_convnext_base.py",
        "pretraining",
        IMAGENET,
        "HOG at 128 pixels, 400 epochs",
        note="Ours: the paper has no such network.",
    ),
    Entry(
        "ImageNet-Classification/vit_base_224.py",
        "classification",
        IMAGENET,
        _ON_VIT,
        weights=VIT_CLASSIFIER,
        start=VIT,
        metrics=top1(83.8, _README),
    ),
    Entry(
        "ImageNet-Classification/swin_base_224.py",
        "classification",
        IMAGENET,
        _ON_SWIN,
        weights=SWIN_CLASSIFIER,
        start=SWIN,
        metrics=top1(84.1, _README),
    ),
    Entry(
        "COCO-InstanceSegmentation/mask_rcnn_swin_base_3x.py",
        "instance_segmentation",
        IMAGENET,
        f"{_ON_SWIN}, {_CLASSIFIED}",
        start=SWIN_CLASSIFIER,
        note="The authors, who also paste objects between images, report 52.0 box and 46.0 mask AP.",
    ),
    Entry(
        "COCO-InstanceSegmentation/mask_rcnn_convnext_base_3x.py",
        "instance_segmentation",
        IMAGENET,
        "any of ConvNeXt",
        note=_OURS,
    ),
    Entry(
        "ADE20K-SemanticSegmentation/upernet_vit_base_160k.py",
        "semantic_segmentation",
        IMAGENET,
        f"{_ON_VIT}, {_CLASSIFIED}",
        start=VIT_CLASSIFIER,
        note="The authors, whose network also has tables of relative positions, report 49.5 mIoU.",
    ),
    Entry(
        "ADE20K-SemanticSegmentation/upernet_swin_base_160k.py",
        "semantic_segmentation",
        IMAGENET,
        f"{_ON_SWIN}, {_CLASSIFIED}",
        start=SWIN_CLASSIFIER,
        note=_OURS,
    ),
    *(
        Entry(f"Custom/{config}.py", task, IMAGENET, pretraining, start=start, note=_OWN)
        for config, task, pretraining, start in _CUSTOM
    ),
    *(
        Entry(
            f"Quickstart/{config}.py",
            task,
            IMAGENET,
            "none",
            classes=(*CLASSES, "background") if task == "semantic_segmentation" else CLASSES,
            note=_SCENES,
        )
        for config, task in _QUICK
    ),
)
