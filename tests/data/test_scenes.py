import json

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from itpn_d2.data import check_coco, generate_scenes, register_scenes
from itpn_d2.data.scenes import CLASSES, draw_scene


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return generate_scenes(tmp_path_factory.mktemp("scenes"), "val", 6, 96, 5)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_same_seed_same_bytes(folder, tmp_path):
    assert contents(generate_scenes(tmp_path, "val", 6, 96, 5)) == contents(folder)
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]  # nothing left over


def test_made_once(folder):
    before = (folder / "instances.json").stat().st_mtime_ns
    assert generate_scenes(folder.parent, "val", 6, 96, 5) == folder
    assert (folder / "instances.json").stat().st_mtime_ns == before


def test_splits_and_seeds_differ():
    pictures = [draw_scene(s, 64)[0] for s in ([5, 0, 0], [5, 1, 0], [6, 0, 0])]
    assert not np.array_equal(pictures[0], pictures[1]) and not np.array_equal(pictures[0], pictures[2])


def test_labels_agree_with_each_other(folder):
    assert not check_coco(folder / "instances.json", folder / "images").problems
    instances = json.loads((folder / "instances.json").read_text())
    panoptic = json.loads((folder / "panoptic.json").read_text())
    for image, segments in zip(instances["images"], panoptic["annotations"], strict=True):
        semantic = cv2.imread(str(folder / "sem_seg" / image["file_name"]), cv2.IMREAD_UNCHANGED)
        colours = cv2.imread(str(folder / "panoptic" / segments["file_name"]))[..., ::-1].astype(int)
        identity = colours @ [1, 256, 65536]
        things = [s for s in segments["segments_info"] if s["category_id"] <= len(CLASSES)]
        found = [a for a in instances["annotations"] if a["image_id"] == image["id"]]
        assert len(things) == len(found) > 0
        covered = np.zeros_like(semantic, bool)
        for segment, annotation in zip(things, found, strict=True):
            mask = mask_util.decode(annotation["segmentation"]).astype(bool)
            assert not (mask & covered).any()  # visible parts do not overlap
            covered |= mask
            assert (identity == segment["id"]).sum() == mask.sum() == annotation["area"]
            assert (semantic[mask] == annotation["category_id"] - 1).all()
            assert list(cv2.boundingRect(mask.astype(np.uint8))) == annotation["bbox"]
        assert (semantic[~covered] == len(CLASSES)).all()


def test_registration(folder):
    name = register_scenes("scenes_for_test", "val", 6, 96, 5, root=str(folder.parent))
    records = DatasetCatalog.get(name)
    assert len(records) == 6 and {"width", "height", "sem_seg_file_name"} <= records[0].keys()
    assert MetadataCatalog.get(name).thing_classes == list(CLASSES)


@pytest.mark.parametrize("wrong", [dict(split="dev"), dict(num_images=0), dict(size=8)])
def test_refuses(wrong, tmp_path):
    arguments = {"split": "val", "num_images": 1, "size": 64, "seed": 0, **wrong}
    with pytest.raises(ValueError):
        generate_scenes(tmp_path, **arguments)
