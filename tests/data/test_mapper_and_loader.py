"""Samples depend on the seed and their place only: not on workers, world size, or what was drawn before."""

import copy
import itertools
import random

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.data import transforms as T
from PIL import Image

from itpn_d2.data import (
    DatasetError,
    OneOf,
    TestMapper,
    TrainMapper,
    build_test_loader,
    build_train_loader,
    build_val_loss_loader,
    custom_augmentations,
    lsj_augmentations,
    multiscale_crop_augmentations,
    register_scenes,
    test_augmentations,
)
from itpn_d2.data.catalogs import register


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return register_scenes("loader_train", "train", 7, 64, 1, root=str(tmp_path_factory.mktemp("scenes")))


def mapper(seed=0, **options):
    return TrainMapper(
        custom_augmentations([48, 64, 80], 96, crop=[40, 40], rot90=True), seed=seed, **options
    )


def take(dataset, count, **options):
    loader = build_train_loader(dataset, mapper(), total_batch_size=2, seed=4, **options)
    return [[d["image"] for d in batch] for batch in itertools.islice(loader, count)]


def same(a, b):
    return len(a) == len(b) and all(
        torch.equal(x, y) for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True)
    )


def test_workers_do_not_matter(dataset):
    assert same(take(dataset, 6, num_workers=0), take(dataset, 6, num_workers=2))


def test_resuming_gives_the_same_samples(dataset):
    assert same(take(dataset, 3, start_iter=4), take(dataset, 7)[4:])


def test_outer_random_state_is_neither_used_nor_changed(dataset):
    record = DatasetCatalog.get(dataset)[0]
    images = []
    for seed in (1, 2):
        np.random.seed(seed)
        random.seed(seed)
        images.append(mapper()(record, 5)["image"])
        after = np.random.rand(), random.random()
        np.random.seed(seed)
        random.seed(seed)
        assert after == (np.random.rand(), random.random())
    assert torch.equal(*images)
    others = [mapper()(record, 6)["image"], mapper(seed=9)(record, 5)["image"]]
    assert all(o.shape != images[0].shape or not torch.equal(o, images[0]) for o in others)


def test_masks_and_boxes_agree(dataset):
    for record in DatasetCatalog.get(dataset):
        instances = mapper(recompute_boxes=True)(record, 3)["instances"]
        tight = instances.gt_masks.get_bounding_boxes().tensor
        assert torch.equal(instances.gt_boxes.tensor, tight)


def test_boxes_only(dataset):
    instances = mapper(use_instance_mask=False)(DatasetCatalog.get(dataset)[0], 0)["instances"]
    assert not instances.has("gt_masks") and len(instances)


@pytest.mark.parametrize(
    "recipe", [lsj_augmentations(64), multiscale_crop_augmentations(), test_augmentations(32, 48)]
)
def test_recipes_run(dataset, recipe):
    out = TrainMapper(recipe)(DatasetCatalog.get(dataset)[0], 1)
    assert out["image"].dtype == torch.uint8 and out["instances"].image_size == tuple(out["image"].shape[1:])


def test_one_of_draws_each_recipe():
    choice = OneOf([[T.Resize((10, 10))], [T.Resize((20, 20))]])
    sides = set()
    np.random.seed(0)
    for _ in range(20):
        inputs = T.AugInput(np.zeros((5, 5, 3), np.uint8))
        transform = choice(inputs)
        sides.add(inputs.image.shape[0])
        assert transform.apply_image(np.zeros((5, 5, 3), np.uint8)).shape == inputs.image.shape
    assert sides == {10, 20}


def test_test_and_validation_loaders_visit_once(dataset):
    tests = build_test_loader(dataset, TestMapper(test_augmentations(64, 64)), batch_size=3)
    assert sorted(d["image_id"] for batch in tests for d in batch) == list(range(1, 8))
    losses = build_val_loss_loader(dataset, TrainMapper(test_augmentations(64, 64)), 2, max_images=5)
    assert sum(len(batch) for batch in losses) == 5
    assert all("instances" in d for batch in losses for d in batch)


@pytest.mark.parametrize("kind", [mapper(), TestMapper(test_augmentations(64, 64))])
def test_unreadable_image_is_named(kind, tmp_path):
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(DatasetError, match=r"x\.png"):
        kind({"file_name": str(tmp_path / "x.png"), "height": 4, "width": 4, "annotations": []})


def test_large_scale_jitter_is_an_option_of_custom_data(dataset):
    """Instead of short sides: any scale, never more than the size."""
    augmentations = custom_augmentations(
        [64], 64, colour=False, large_scale_jitter={"size": 48, "min_scale": 0.3, "max_scale": 2.0}
    )
    mapper = TrainMapper(augmentations, recompute_boxes=True)
    record = DatasetCatalog.get(dataset)[0]
    shapes = {tuple(mapper(record, i)["image"].shape[1:]) for i in range(20)}
    assert (48, 48) in shapes and len(shapes) > 3
    assert all(max(shape) <= 48 for shape in shapes) and min(min(shape) for shape in shapes) >= 14


def test_rare_classes_are_repeated(dataset):
    records = copy.deepcopy(DatasetCatalog.get(dataset))
    for number, record in enumerate(records):
        for annotation in record["annotations"]:
            annotation["category_id"] = int(number == 0)
    register("rare_train", (), lambda: records)
    mapper = TrainMapper([], use_instance_mask=False)

    def share(threshold):
        loader = build_train_loader(
            "rare_train", mapper, 1, repeat_threshold=threshold, aspect_ratio_grouping=False
        )
        seen = [batch[0]["instances"].gt_classes for batch in itertools.islice(loader, 70)]
        return sum(bool((classes == 1).any()) for classes in seen) / len(seen)

    assert share(None) == pytest.approx(1 / 7)
    assert share(1.0) > 1.5 / 7  # the factor is sqrt(7)


def test_images_without_keypoints_are_left_out(dataset):
    mapper = TrainMapper([], use_instance_mask=False)
    everything = build_train_loader(dataset, mapper, 1).dataset
    some = build_train_loader(dataset, mapper, 1, min_keypoints=20).dataset
    assert 0 < len(some) < len(everything)
    with pytest.raises(DatasetError, match="999 labelled keypoints"):
        build_train_loader(dataset, mapper, 1, min_keypoints=999)


def test_keypoints_follow_a_mirror(dataset):
    record = DatasetCatalog.get(dataset)[0]
    flip = [0, 3, 2, 1]  # top, right, bottom, left
    mapper = TrainMapper(
        [T.RandomFlip(prob=1.0)], use_instance_mask=False, use_keypoint=True, keypoint_flip=flip
    )
    found = mapper(record)["instances"].gt_keypoints.tensor
    stored = np.array([a["keypoints"] for a in record["annotations"]]).reshape(-1, 4, 3)[:, flip]
    seen = stored[..., 2] > 0
    assert seen.any()
    assert np.allclose(found[..., 0].numpy()[seen], record["width"] - stored[..., 0][seen])
    assert np.allclose(found[..., 1].numpy()[seen], stored[..., 1][seen])


def test_masks_that_only_boxes_are_made_from(dataset):
    for position, record in enumerate(DatasetCatalog.get(dataset)):
        kept, dropped = (mapper(recompute_boxes=True, keep_masks=k)(record, position) for k in (True, False))
        assert torch.equal(kept["instances"].gt_boxes.tensor, dropped["instances"].gt_boxes.tensor)
        assert kept["instances"].has("gt_masks") and not dropped["instances"].has("gt_masks")


@pytest.mark.parametrize("recompute", [True, False])
def test_an_image_without_objects_has_empty_fields(dataset, recompute):
    record = {k: v for k, v in DatasetCatalog.get(dataset)[0].items() if k != "annotations"}
    crowd = {**DatasetCatalog.get(dataset)[0]["annotations"][0], "iscrowd": 1}
    for given in (record, {**record, "annotations": []}, {**record, "annotations": [crowd]}):
        sample = mapper(recompute_boxes=recompute)(given, 1)
        instances = sample["instances"]
        assert len(instances) == 0 and instances.image_size == sample["image"].shape[1:]
        assert len(instances.gt_masks) == len(instances.gt_boxes) == len(instances.gt_classes) == 0
    assert not mapper(use_instance_mask=False)(record, 1)["instances"].has("gt_masks")
    flipped = mapper(use_instance_mask=False, use_keypoint=True, keypoint_flip=[1, 0])
    assert flipped(record, 1)["instances"].gt_keypoints.tensor.shape == (0, 2, 3)


def test_label_images_beside_instances_follow_a_mirror(tmp_path):
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:, :2] = 200
    Image.fromarray(pixels).save(tmp_path / "image.png")
    Image.fromarray((pixels[..., 0] > 0).astype(np.uint8)).save(tmp_path / "labels.png")
    record = {"file_name": str(tmp_path / "image.png"), "height": 4, "width": 6, "annotations": []}
    read = TrainMapper([T.RandomFlip(prob=1.0)], use_instance_mask=False, use_semantic=True)
    sample = read({**record, "sem_seg_file_name": str(tmp_path / "labels.png")})
    assert torch.equal(sample["sem_seg"], (sample["image"][0] > 0).long())
    assert sample["sem_seg"][0].tolist() == [0, 0, 0, 0, 1, 1] and len(sample["instances"]) == 0
    with pytest.raises(DatasetError, match=r"image.png.*no sem_seg_file_name"):
        read(record)
