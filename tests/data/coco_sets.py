"""Generated COCO sets, ways to spoil them, and a perfect detector."""

import contextlib
import io

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, BoxMode, Instances

from itpn_d2.data import TrainMapper, build_train_loader
from itpn_d2.evaluation import build_evaluator

WIDTH, HEIGHT = 72, 56
NAN, INFINITE = float("nan"), float("inf")


def made_set(seed=0, images=3, each=2):
    """A json of rectangles with masks, two in each image, side by side."""
    rng = np.random.default_rng(seed)
    data = {
        "images": [
            {"id": i, "file_name": f"picture {i}.png", "width": WIDTH, "height": HEIGHT}
            for i in range(1, images + 1)
        ],
        "annotations": [],
        "categories": [{"id": 4, "name": "bolt"}, {"id": 9, "name": "nut"}],
    }
    for image in range(1, images + 1):
        for k in range(each):
            w, h = (int(v) for v in rng.integers(8, 24, 2))
            x, y = k * WIDTH // each + int(rng.integers(0, 8)), int(rng.integers(0, HEIGHT - h))
            data["annotations"].append(
                {
                    "id": len(data["annotations"]) + 1,
                    "image_id": image,
                    "category_id": (4, 9)[k % 2],
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
    return data


def mask_of(annotation):
    x, y, w, h = annotation["bbox"]
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[y : y + h, x : x + w] = 1
    return mask


def runs(mask):
    flat = np.concatenate(([0], mask.flatten(order="F"), [2]))
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    found = np.diff(np.concatenate(([0], changes))).tolist()
    assert sum(found) == mask.size
    return found


def compressed(mask):
    code = mask_util.encode(np.asfortranarray(mask))
    return {"size": list(code["size"]), "counts": code["counts"].decode()}


def pixels(segmentation, size):
    if isinstance(segmentation, list):
        segmentation = mask_util.merge(mask_util.frPyObjects(segmentation, *size))
    return mask_util.decode(segmentation)


def perfect(name):
    evaluator = build_evaluator(name)
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        size, known = (record["height"], record["width"]), record["annotations"]
        found = Instances(size)
        boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in known]
        found.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
        found.scores = torch.full((len(known),), 0.9)
        found.pred_classes = torch.tensor([a["category_id"] for a in known], dtype=torch.int64)
        if known and all("segmentation" in a for a in known):
            masks = [pixels(a["segmentation"], size) for a in known]
            found.pred_masks = torch.tensor(np.stack(masks)).bool()
        evaluator.process([{"image_id": record["image_id"]}], [{"instances": found}])
    with contextlib.redirect_stdout(io.StringIO()):
        return evaluator.evaluate()


def predict(name, folder):
    """One box in each image, evaluated into ``folder``."""
    evaluator = build_evaluator(name, output_dir=str(folder))
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        found = Instances((HEIGHT, WIDTH), pred_boxes=Boxes(torch.tensor([[1.0, 2, 9, 9]])))
        found.scores, found.pred_classes = torch.tensor([0.5]), torch.tensor([1])
        evaluator.process([{"image_id": record["image_id"]}], [{"instances": found}])
    with contextlib.redirect_stdout(io.StringIO()):
        return evaluator.evaluate()


def is_whole(name, objects=6):
    """All objects train, and perfect detections score 100 for every class."""
    mapper = TrainMapper([], use_instance_mask=True, recompute_boxes=True)
    count = len(DatasetCatalog.get(name))
    batch = next(iter(build_train_loader(name, mapper, count, aspect_ratio_grouping=False)))
    assert sum(len(sample["instances"]) for sample in batch) == objects
    found = perfect(name)
    for task in ("bbox", "segm"):
        assert all(v > 99.9 for k, v in found[task].items() if v == v), found


def every(key, change):
    """The value under ``key`` of every annotation, changed."""

    def spoil(data):
        for number, annotation in enumerate(data["annotations"]):
            annotation[key] = change(annotation, number)

    return spoil


def first(**fields):
    return lambda data: data["annotations"][0].update(fields)


def without(*keys):
    return lambda data: [annotation.pop(key) for annotation in data["annotations"] for key in keys]


def images(change):
    return lambda data: [change(image) for image in data["images"]]


def all_ids(change):
    def spoil(data):
        for image in data["images"]:
            image["id"] = change(image["id"])
        for annotation in data["annotations"]:
            annotation["image_id"] = change(annotation["image_id"])

    return spoil
