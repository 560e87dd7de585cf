"""Every config's training mapper maps what its annotations may hold: polygons, both forms of RLE, a crowd,
objects at the border, and an image without any; several draws of each, so that views are cropped.

A mapper that several configs share is run once.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from detectron2.structures import BitMasks, PolygonMasks
from omegaconf import OmegaConf
from PIL import Image

from itpn_d2.data import (
    LabelledImageMapper,
    PanopticMapper,
    SemanticMapper,
    TrainMapper,
    register_coco,
    register_panoptic,
    register_semantic,
)
from itpn_d2.data.mapper import seeded
from itpn_d2.engine.config import load_config

ROOT = Path(__file__).resolve().parents[2] / "configs"
ALL = sorted(p for p in ROOT.rglob("*") if p.suffix in (".py", ".yaml") and "common" not in p.parts)
WIDTH, HEIGHT = 64, 48
DRAWS = range(6)
KEYPOINTS = ["nose", "left_eye", "right_eye"]
POLYGON = [[-0.0, 30.0, 40.0, 4.0, 64.0, 20.0, 50.0, 48.0, 0.0, 48.0], [2.0, 2.0, 12.0, 2.0, 12.0, 9.0]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A COCO json of five images, a panoptic set and a semantic one of the same images."""
    root = tmp_path_factory.mktemp("data")
    (root / "images").mkdir()
    (root / "labels").mkdir()
    (root / "segments").mkdir()
    random = np.random.default_rng(0)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[20:, 30:] = 1
    compressed = mask_util.encode(mask)
    compressed["counts"] = compressed["counts"].decode()
    flat, counts, value = mask.flatten(order="F"), [], 0
    while len(flat):
        run = int(np.argmax(flat != value)) if (flat != value).any() else len(flat)
        counts.append(run)
        flat, value = flat[run:], 1 - value
    plain = {"size": [HEIGHT, WIDTH], "counts": counts}
    kinds = {"polygon": POLYGON, "compressed": compressed, "uncompressed": plain, "crowd": POLYGON}
    images, annotations, segments = [], [], []
    for number, kind in enumerate((*kinds, "background"), 1):
        name = f"{kind}.png"
        pixels = random.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(root / "images" / name)
        images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        Image.fromarray(mask).save(root / "labels" / name)
        ids = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        ids[..., 0] = 2 - mask
        Image.fromarray(ids).save(root / "segments" / name)
        segments.append(
            {
                "image_id": number,
                "file_name": name,
                "segments_info": [
                    {"id": 1, "category_id": 1, "iscrowd": 0},
                    {"id": 2, "category_id": 2, "iscrowd": 0},
                ],
            }
        )
        shared = {"image_id": number, "category_id": 1, "area": 500.0, "num_keypoints": 3}
        keypoints = [40.0, 22.0, 2, 63.0, 47.0, 1, 35.0, 40.0, 2]
        box = [0.0, 2.0, 64.0, 46.0] if kind in ("polygon", "crowd") else [30.0, 20.0, 34.0, 28.0]
        if kind != "background":
            annotations.append(
                {
                    **shared,
                    "id": len(annotations) + 1,
                    "iscrowd": 0,
                    "bbox": box,
                    "segmentation": kinds[kind],
                    "keypoints": keypoints,
                }
            )
        if kind == "crowd":
            annotations.append(
                {
                    **shared,
                    "id": len(annotations) + 1,
                    "iscrowd": 1,
                    "bbox": [30.0, 20.0, 34.0, 28.0],
                    "segmentation": plain,
                    "keypoints": [0.0] * 9,
                    "num_keypoints": 0,
                }
            )
    category = {"id": 1, "name": "thing", "keypoints": KEYPOINTS, "skeleton": []}
    data = {"images": images, "annotations": annotations, "categories": [category]}
    (root / "coco.json").write_text(json.dumps(data))
    kinds_of = [{"id": 1, "name": "thing", "isthing": 1}, {"id": 2, "name": "stuff", "isthing": 0}]
    panoptic = {"images": images, "annotations": segments, "categories": kinds_of}
    (root / "panoptic.json").write_text(json.dumps(panoptic))
    return root


@pytest.fixture(scope="module")
def records(folder):
    """By mapper: name of the image's kind to its record, as the registered set has it."""
    images = str(folder / "images")
    coco = register_coco("mapped_coco", str(folder / "coco.json"), images)
    panoptic = register_panoptic(
        "mapped_panoptic", str(folder / "panoptic.json"), images, str(folder / "segments")
    )
    semantic = register_semantic("mapped_semantic", images, str(folder / "labels"), ["stuff", "thing"])
    found = {
        kind: {Path(r["file_name"]).stem: r for r in DatasetCatalog.get(name)}
        for kind, name in ((TrainMapper, coco), (PanopticMapper, panoptic), (SemanticMapper, semantic))
    }
    assert all(len(f) == 5 for f in found.values())
    return found


@cache
def config(path: Path) -> Any:
    cfg = load_config(str(path))
    if "keypoint_flip" in cfg.dataset:
        cfg.dataset.keypoint_flip = [0, 2, 1]
    return cfg


def node(path: Path) -> tuple[str, Any]:
    """What a config trains on: its mapper or, in pre-training, its view, with the text of it resolved."""
    cfg = config(path)
    train = cfg.dataloader.train
    chosen = train.mapper if "mapper" in train else train.view
    plain = OmegaConf.create(
        {"chosen": OmegaConf.to_container(chosen, resolve=True)}, flags={"allow_objects": True}
    )
    plain.chosen.seed = 0
    return OmegaConf.to_yaml(plain), plain.chosen


_mapped: dict[str, dict[str, list[Any]]] = {}


def samples(path: Path, records: Any) -> tuple[Any, dict[str, list[Any]]]:
    """The mapper of a config, and of each kind of image what the draws give."""
    text, chosen = node(path)
    mapper = instantiate(chosen)
    if text not in _mapped:
        if type(mapper) not in records:
            pictures = {n: Image.open(r["file_name"]).copy() for n, r in records[TrainMapper].items()}
            view = mapper.view if isinstance(mapper, LabelledImageMapper) else mapper
            _mapped[text] = {n: [drawn(view, p, k) for k in DRAWS] for n, p in pictures.items()}
        else:
            given = records[type(mapper)]
            _mapped[text] = {n: [mapper(r, k) for k in DRAWS] for n, r in given.items()}
    return mapper, _mapped[text]


def drawn(view: Any, picture: Image.Image, position: int) -> Any:
    with seeded(0, position):
        return view(picture)


def check_masks(masks: Any, count: int, height: int, width: int) -> None:
    assert len(masks) == count
    if isinstance(masks, BitMasks):
        assert masks.tensor.shape[1:] == (height, width) and masks.tensor.any()
    else:
        assert isinstance(masks, PolygonMasks)
        for polygon in (p for polygons in masks.polygons for p in polygons):
            points = np.asarray(polygon).reshape(-1, 2)
            assert len(points) >= 3 and np.isfinite(points).all()
            assert (points >= -1e-3).all() and (points <= np.array([width, height]) + 1e-3).all()


@pytest.mark.parametrize("path", ALL, ids=lambda p: str(p.relative_to(ROOT)))
def test_training_samples(path, records):
    mapper, found = samples(path, records)
    if not isinstance(mapper, SemanticMapper | TrainMapper):
        size = config(path).dataloader.image.size if "image" in config(path).dataloader else mapper.size
        for view in (v for views in found.values() for v in views):
            pixels = view["image"] if isinstance(view, dict) else torch.as_tensor(view)
            assert pixels.shape == (3, size, size) and pixels.dtype == torch.uint8
        return
    for name, draws in found.items():
        for sample in draws:
            image = sample["image"]
            assert image.dtype == torch.uint8 and image.shape[0] == 3
            height, width = image.shape[1:]
            if isinstance(mapper, SemanticMapper):
                assert sample["sem_seg"].shape == (height, width) and sample["sem_seg"].dtype == torch.int64
                if type(mapper) is PanopticMapper:
                    check_masks(sample["instances"].gt_masks, len(sample["instances"]), height, width)
                continue
            instances = sample["instances"]
            assert instances.image_size == (height, width)
            assert len(instances) <= (name != "background"), "the crowd is no object"
            assert instances.has("gt_masks") == (mapper.use_instance_mask and mapper.keep_masks)
            if instances.has("gt_masks") and len(instances):
                check_masks(instances.gt_masks, len(instances), height, width)
            if "keypoint" in path.name and len(instances):
                assert instances.gt_keypoints.tensor.shape[1:] == (3, 3)
    if isinstance(mapper, TrainMapper):  # an object may be cropped away, but not in all draws
        assert all(any(len(s["instances"]) for s in d) for n, d in found.items() if n != "background")


def test_draws_crop_and_jitter(records):
    """What the test above is about really happens in it: the polygon loses a part in some draw."""
    for name in ("mask_rcnn_fast_itpn_tiny_1x", "mask_rcnn_fast_itpn_tiny_lsj"):
        mapper, found = samples(ROOT / "COCO-InstanceSegmentation" / f"{name}.py", records)
        areas = [
            float(s["instances"].gt_masks.area().sum()) / s["image"][0].numel()
            if isinstance(s["instances"].gt_masks, PolygonMasks)
            else float(s["instances"].gt_masks.tensor.float().mean(dim=(1, 2)).sum())
            for s in found["polygon"]
        ]
        assert max(areas) - min(areas) > 0.05, areas


def test_a_crowd_does_not_change_how_masks_are_kept(records):
    """It is left out, so that its RLE is no reason to turn the polygons of the others into bits."""
    mapper, found = samples(ROOT / "COCO-InstanceSegmentation" / "mask_rcnn_fast_itpn_tiny_1x.py", records)
    assert all(isinstance(s["instances"].gt_masks, PolygonMasks) for s in found["crowd"])
    assert all(isinstance(s["instances"].gt_masks, BitMasks) for s in found["compressed"])
