"""What the benchmark of loading compares: generated pictures with objects, and pipelines from file to
tensor."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image
from timm.data import create_transform
from torchvision import io
from torchvision.transforms import InterpolationMode, v2

from itpn_d2.data import LabelledImageMapper, TrainMapper, custom_augmentations, lsj_augmentations
from itpn_d2.data.augmentation import ResizeShortestEdge
from itpn_d2.data.decode import open_image
from itpn_d2.data.decoder import Decoder
from itpn_d2.seed import seeded
from pretrain.data import TrainView

Record = dict[str, Any]
Pipeline = Callable[[Record, int], Any]
_CORNERS = 24  # of a polygon
_SIDES = tuple(range(480, 801, 32))


@dataclass(frozen=True)
class Case:
    """Pipelines that make the same samples: ours, by decoder, and those of others.

    Attributes:
        target: of the gain of ``auto``; 0 for none.
    """

    text: str
    sides: Mapping[str, Pipeline]
    target: float = 0.0


def pictures(folder: Path, width: int, height: int, count: int, objects: int) -> list[Record]:
    """Records of JPEGs (quality 90, 4:2:0) of soft shapes and grain, each with star-shaped objects."""
    random, records = np.random.default_rng(0), []
    for number in range(count):
        soft = random.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
        base = np.asarray(Image.fromarray(soft).resize((width, height), Image.Resampling.BICUBIC), np.float32)
        grain = random.normal(0, 12, base.shape).astype(np.float32)
        path = folder / f"{width}x{height}_{number}.jpg"
        Image.fromarray(np.clip(base + grain, 0, 255).astype(np.uint8)).save(path, quality=90)
        found = [_object(random, width, height) for _ in range(objects)]
        records.append(
            {"file_name": str(path), "width": width, "height": height, "label": 0, "annotations": found}
        )
    return records


def _object(random: np.random.Generator, width: int, height: int) -> Record:
    radius = min(width, height) * np.exp(random.uniform(np.log(0.02), np.log(0.3)))
    centre = random.uniform((radius, radius), (width - radius, height - radius))
    angles = np.sort(random.uniform(0, 2 * np.pi, _CORNERS))
    reach = radius * random.uniform(0.5, 1.0, _CORNERS)
    points = centre + reach[:, None] * np.stack((np.cos(angles), np.sin(angles)), 1)
    low, high = points.min(0), points.max(0)
    return {
        "bbox": [*low.tolist(), *(high - low).tolist()],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 0,
        "iscrowd": 0,
        "segmentation": [points.ravel().tolist()],
    }


def _detection(
    text: str, recipe: list[Any], theirs: list[Any], v2_steps: list[Any] | None = None, **options: Any
) -> Case:
    def ours(decoder: Decoder) -> Pipeline:
        return TrainMapper(recipe, decoder=decoder, **options)

    mapper = DatasetMapper(
        is_train=True,
        augmentations=theirs,
        image_format="RGB",
        use_instance_mask=options["use_instance_mask"],
        instance_mask_format="bitmask",
        recompute_boxes=options.get("recompute_boxes", False),
    )

    def detectron2(record: Record, position: int) -> Any:
        with seeded(0, position):
            return mapper(record)

    sides = {"pillow": ours("pillow"), "auto": ours("auto"), "Detectron2": detectron2}
    if v2_steps is not None:
        sides["torchvision v2"] = _torchvision(v2.Compose(v2_steps))
    return Case(text, sides, 2.5)


def _torchvision(transform: Callable[[torch.Tensor], torch.Tensor]) -> Pipeline:
    """Pixels alone: no boxes."""

    def run(record: Record, position: int) -> torch.Tensor:
        data = io.read_file(record["file_name"])
        with seeded(0, position):
            return transform(io.decode_image(data, io.ImageReadMode.RGB)).contiguous()

    return run


def _of_pillow(transform: Callable[[Image.Image], Any]) -> Pipeline:
    def run(record: Record, position: int) -> Any:
        with open(record["file_name"], "rb") as file, Image.open(file) as image, seeded(0, position):
            return transform(image.convert("RGB"))

    return run


def _pretraining() -> Case:
    def ours(decoder: Decoder) -> Pipeline:
        view = TrainView(size=224, decoder=decoder)

        def run(record: Record, position: int) -> Any:
            with open_image(record["file_name"]) as image:
                return view(image, position)

        return run

    timm = create_transform(
        224,
        is_training=True,
        scale=(0.2, 1.0),
        color_jitter=None,
        interpolation="bicubic",
        use_prefetcher=True,
    )
    crop = v2.RandomResizedCrop(224, (0.2, 1.0), interpolation=InterpolationMode.BICUBIC, antialias=True)
    theirs = v2.Compose([crop, v2.RandomHorizontalFlip()])
    sides = {
        "pillow": ours("pillow"),
        "auto": ours("auto"),
        "timm": _of_pillow(timm),
        "torchvision v2": _torchvision(theirs),
    }
    return Case("pre-training, 224", sides, 1.5)


def _classification() -> Case:
    def transform() -> Any:
        return create_transform(
            224,
            is_training=True,
            scale=(0.08, 1.0),
            auto_augment="rand-m9-mstd0.5-inc1",
            interpolation="bicubic",
            use_prefetcher=True,
        )

    def ours(decoder: Decoder) -> Pipeline:
        return LabelledImageMapper(transform(), decoder=decoder)

    sides = {"pillow": ours("pillow"), "auto": ours("auto"), "timm": _of_pillow(transform())}
    return Case("classification, 224, RandAugment", sides)


def _jitter(size: int = 1024) -> list[Any]:
    return [
        T.RandomFlip(),
        T.ResizeScale(0.1, 2.0, size, size),
        T.FixedSizeCrop((size, size), pad=False),
    ]


def cases() -> dict[str, Case]:
    """All of them, by the name that an option takes."""
    v2_short = [v2.RandomHorizontalFlip(), v2.Resize(800, max_size=1333, antialias=True)]
    v2_jitter = [v2.RandomHorizontalFlip(), v2.ScaleJitter((1024, 1024), (0.1, 2.0), antialias=True)]
    colours = [T.RandomBrightness(0.7, 1.3), T.RandomContrast(0.7, 1.3), T.RandomSaturation(0.7, 1.3)]
    custom = [T.ResizeShortestEdge(_SIDES, 1333, "choice"), T.RandomFlip(), *colours]
    return {
        "short": _detection(
            "short side 800, boxes",
            [T.RandomFlip(), ResizeShortestEdge(800, 1333)],
            [T.RandomFlip(), T.ResizeShortestEdge(800, 1333)],
            v2_short,
            use_instance_mask=False,
        ),
        "lsj_boxes": _detection(
            "large-scale jitter 1024, boxes",
            lsj_augmentations(1024),
            _jitter(),
            [*v2_jitter, v2.RandomCrop((1024, 1024), pad_if_needed=True)],
            use_instance_mask=False,
        ),
        "lsj_masks": _detection(
            "large-scale jitter 1024, masks",
            lsj_augmentations(1024),
            _jitter(),
            use_instance_mask=True,
            instance_mask_format="bitmask",
            recompute_boxes=True,
        ),
        "custom": _detection(
            "configs/Custom: short sides 480-800, colours, masks",
            custom_augmentations(_SIDES, 1333),
            custom,
            use_instance_mask=True,
            recompute_boxes=True,
        ),
        "pretrain": _pretraining(),
        "classification": _classification(),
    }
