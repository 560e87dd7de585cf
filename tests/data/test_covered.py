"""Masks and boxes of polygons and run lengths: Detectron2's, to the last pixel."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.structures import BitMasks, BoxMode
from detectron2.structures.masks import polygons_to_bitmask
from PIL import Image

from itpn_d2.data import TrainMapper, lsj_augmentations, multiscale_crop_augmentations
from itpn_d2.data.covered import bit_masks, boxes_around, covered
from itpn_d2.seed import seeded


def polygons(random, height, width, number):
    """Some on whole pixels, where rounding has to decide; some reaching out of the image."""
    found = []
    for _ in range(random.integers(1, 4)):
        points = random.uniform(-20, 80, 2) + random.normal(
            0, random.uniform(0.2, 30), (random.integers(3, 9), 2)
        )
        points = np.round(points) if number % 3 == 0 else points
        found.append((np.clip(points, 0, (width, height)) if number % 3 == 1 else points).ravel())
    return found


def test_polygons_are_cocos():
    random, drawn = np.random.default_rng(0), 0
    for number in range(1500):
        height, width = (int(v) for v in random.integers(1, 60, 2))
        given = polygons(random, height, width, number)
        expected = torch.from_numpy(polygons_to_bitmask([p.copy() for p in given], height, width))[None]
        found = covered(given, height, width)
        assert torch.equal(bit_masks([found], height, width).tensor, expected)
        assert torch.equal(boxes_around([found]).tensor, BitMasks(expected).get_bounding_boxes().tensor)
        drawn += bool(expected.any())
    assert drawn > 500


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64])
def test_masks_as_arrays(order, kind):
    random = np.random.default_rng(1)
    for _ in range(50):
        mask = np.asarray(random.random((12, 9)) < 0.03, dtype=kind, order=order)
        found = covered(mask, 12, 9)
        assert torch.equal(bit_masks([found], 12, 9).tensor[0], torch.from_numpy(mask != 0))
        assert torch.equal(
            boxes_around([found]).tensor,
            BitMasks(torch.from_numpy(mask != 0)[None]).get_bounding_boxes().tensor,
        )


def test_nothing_is_covered():
    assert covered([], 5, 4).box == (0, 0, 0, 0)
    assert not bit_masks([covered([], 5, 4)], 5, 4).tensor.any()
    assert bit_masks([], 5, 4).tensor.shape == (0, 5, 4) and boxes_around([]).tensor.shape == (0, 4)


@pytest.fixture
def record(tmp_path):
    random = np.random.default_rng(5)
    Image.fromarray(random.integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    annotations = []
    for number in range(6):
        centre, radius = random.uniform(10, 80, 2), random.uniform(3, 30)
        points = centre + radius * np.stack((np.cos(np.arange(7)), np.sin(np.arange(7))), 1)
        low, high = points.min(0), points.max(0)
        annotations.append(
            dict(
                bbox=[*low.tolist(), *(high - low).tolist()],
                bbox_mode=BoxMode.XYWH_ABS,
                category_id=number,
                iscrowd=int(number == 3),
                segmentation=[points.ravel().tolist()],
                keypoints=[*centre.tolist(), 2, *low.tolist(), 1],
            )
        )
    return dict(file_name=str(tmp_path / "a.png"), width=120, height=90, image_id=1, annotations=annotations)


@pytest.mark.parametrize("recipe", [lsj_augmentations(64), multiscale_crop_augmentations()])
@pytest.mark.parametrize("kind", ["polygon", "bitmask", None])
@pytest.mark.parametrize("recompute", [False, True])
def test_samples_are_detectron2s(record, recipe, kind, recompute):
    """The mapper's samples, drawn from the same numbers, but for what its reader does better."""
    recompute = recompute and kind is not None
    options = dict(use_instance_mask=kind is not None, instance_mask_format=kind or "polygon")
    theirs = DatasetMapper(
        is_train=True,
        augmentations=recipe,
        image_format="RGB",
        use_keypoint=True,
        keypoint_hflip_indices=np.array([1, 0]),
        recompute_boxes=recompute,
        **options,
    )
    options.update(use_keypoint=True, keypoint_flip=[1, 0], recompute_boxes=recompute)
    ours = [TrainMapper(recipe, decoder=d, seed=2, **options) for d in ("pillow", "auto")]
    for position in range(6):
        with seeded(2, position):
            expected = theirs(record)
        for mapper in ours:
            found = mapper(record, position)
            assert found.keys() == expected.keys() and found["image_id"] == 1
            assert (found["image"].int() - expected["image"].int()).abs().max() <= 2
            a, b = found["instances"], expected["instances"]
            assert (
                len(a) == len(b)
                and a.image_size == b.image_size
                and set(a.get_fields()) == set(b.get_fields())
            )
            assert torch.equal(a.gt_boxes.tensor, b.gt_boxes.tensor) and torch.equal(
                a.gt_classes, b.gt_classes
            )
            assert torch.equal(a.gt_keypoints.tensor, b.gt_keypoints.tensor)
            if kind == "bitmask":
                assert torch.equal(a.gt_masks.tensor, b.gt_masks.tensor)
            elif kind == "polygon":
                for one, other in zip(a.gt_masks.polygons, b.gt_masks.polygons, strict=True):
                    assert all((p == q).all() for p, q in zip(one, other, strict=True))


def test_boxes_of_masks_that_are_not_kept(record):
    options = dict(recompute_boxes=True, seed=2)
    kept, boxes = (TrainMapper(lsj_augmentations(64), keep_masks=k, **options) for k in (True, False))
    for position in range(6):
        a, b = kept(record, position)["instances"], boxes(record, position)["instances"]
        assert not b.has("gt_masks") and torch.equal(a.gt_boxes.tensor, b.gt_boxes.tensor)
