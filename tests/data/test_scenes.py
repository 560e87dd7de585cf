import json

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from itpn_d2.data import PanopticMapper, SemanticMapper, check_coco, generate_scenes, register_scenes
from itpn_d2.data.catalogs import dataset_facts
from itpn_d2.data.scenes import CLASSES, KEYPOINTS, draw_scene


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
    assert len(records) == 6 and {"width", "height", "annotations"} <= records[0].keys()
    assert MetadataCatalog.get(name).thing_classes == list(CLASSES)


def test_keypoints_are_the_ends_of_what_is_seen():
    """Of a shape that nothing hides and the border does not cut, they touch the sides of its box."""
    whole = 0
    for seed in range(12):
        for found in draw_scene([seed, 0], 128)[1]:
            assert found.keypoints.shape == (4, 3)
            assert (found.keypoints[:, :2] >= 0).all() and (found.keypoints[:, :2] < 128).all()
            assert not found.keypoints[found.keypoints[:, 2] == 0].any()
            if found.mask.sum() == found.area and (found.keypoints[:, 2] == 2).all():
                x, y, w, h = cv2.boundingRect(found.mask.astype(np.uint8))
                top, right, bottom, left = found.keypoints[:, :2]
                sides = (top[1] - y, right[0] - (x + w - 1), bottom[1] - (y + h - 1), left[0] - x)
                assert np.abs(sides).max() <= 2
                whole += 1
    assert whole > 5


def test_a_shape_in_front_hides_keypoints():
    hidden = visible = 0
    for seed in range(12):
        for found in draw_scene([seed, 1], 128)[1]:
            hidden += int((found.keypoints[:, 2] == 1).sum())
            visible += int((found.keypoints[:, 2] == 2).sum())
    assert 0 < hidden < visible


@pytest.mark.parametrize(
    ("task", "facts"),
    [
        ("instances", {"num_classes": 5, "class_names": list(CLASSES)}),
        ("semantic", {"num_classes": 6, "class_names": [*CLASSES, "background"], "num_semantic_classes": 6}),
        (
            "panoptic",
            {
                "num_classes": 5,
                "class_names": list(CLASSES),
                "num_semantic_classes": 2,
                "semantic_class_names": ["things", "background"],
            },
        ),
        (
            "keypoints",
            {
                "num_classes": 5,
                "class_names": list(CLASSES),
                "num_keypoints": 4,
                "keypoint_flip": [0, 3, 2, 1],
            },
        ),
    ],
)
def test_what_a_model_has_to_know(folder, task, facts):
    name = register_scenes(f"scenes_{task}", "val", 6, 96, 5, root=str(folder.parent), task=task)
    assert dataset_facts(name) == facts
    assert len(DatasetCatalog.get(name)) == 6
    with pytest.raises(ValueError, match="choose instances"):
        register_scenes("scenes_none", "val", 6, 96, 5, root=str(folder.parent), task="boxes")


def test_semantic_and_panoptic_targets_agree_with_the_instances(folder):
    name = {t: f"scenes_agree_{t}" for t in ("instances", "semantic", "panoptic")}
    records = {}
    for task, dataset in name.items():
        register_scenes(dataset, "val", 6, 96, 5, root=str(folder.parent), task=task)
        records[task] = DatasetCatalog.get(dataset)
    for instances, semantic, panoptic in zip(*records.values(), strict=True):
        assert instances["file_name"] == semantic["file_name"] == panoptic["file_name"]
        labels = SemanticMapper([])(semantic)["sem_seg"].numpy()
        sample = PanopticMapper([])(panoptic)
        assert ((labels == len(CLASSES)) == (sample["sem_seg"].numpy() == 1)).all()
        found = sample["instances"]
        assert found.gt_classes.tolist() == [a["category_id"] for a in instances["annotations"]]
        for mask, annotation in zip(found.gt_masks.tensor.numpy(), instances["annotations"], strict=True):
            assert (mask == mask_util.decode(annotation["segmentation"]).astype(bool)).all()


def test_keypoints_in_the_json(folder):
    data = json.loads((folder / "instances.json").read_text())
    assert all(c["keypoints"] == list(KEYPOINTS) for c in data["categories"])
    for annotation in data["annotations"]:
        assert sum(v > 0 for v in annotation["keypoints"][2::3]) == annotation["num_keypoints"]


@pytest.mark.parametrize("wrong", [dict(split="dev"), dict(num_images=0), dict(size=8)])
def test_refuses(wrong, tmp_path):
    arguments = {"split": "val", "num_images": 1, "size": 64, "seed": 0, **wrong}
    with pytest.raises(ValueError):
        generate_scenes(tmp_path, **arguments)
