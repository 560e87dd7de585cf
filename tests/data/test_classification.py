"""Labelled images: classes and their order, records, broken images, samples that depend on their place."""

import itertools
import pickle
import random

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from omegaconf import OmegaConf
from PIL import Image
from timm.data import create_transform

from itpn_d2.data import (
    DatasetError,
    LabelledImageMapper,
    build_test_loader,
    build_train_loader,
    prepare_datasets,
    register_labelled_images,
)
from itpn_d2.data.posterize import _operations, keep_a_bit


def fill(folder, counts, size=(40, 30)):
    """``counts`` of images in class folders; image i of a class is grey 20 i."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", size, (20 * i,) * 3).save(folder / name / f"{i:02d}.jpg")
    return str(folder)


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path / "train", {"b": 3, "A": 2, "t-shirt": 4})


def records(name):
    return list(DatasetCatalog.get(name))


def test_classes_are_the_sorted_folders(folder):
    name = register_labelled_images("order_train", folder)
    assert list(MetadataCatalog.get(name).thing_classes) == ["A", "b", "t-shirt"]
    known = DatasetCatalog.get(name)
    assert [r["label"] for r in known] == [0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert [r["image_id"] for r in known] == list(range(9)) and known[-1] == known[8]
    assert known[2]["file_name"].endswith("b/00.jpg") and len(known[1:4]) == 3
    with pytest.raises(IndexError):
        known[9]


def test_a_list_gives_the_same_as_folders(folder, tmp_path):
    expected = records(register_labelled_images("listed_folder_train", folder))
    lines = [f"{r['file_name']},{['A', 'b', 't-shirt'][r['label']]}" for r in expected]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    assert records(register_labelled_images("listed_train", str(tmp_path / "list.txt"))) == expected


def test_numbers_count_the_classes_of_training(folder, tmp_path):
    """As ImageNet's validation images lie in one folder, beside a list."""
    flat = tmp_path / "ILSVRC val"
    flat.mkdir()
    names = [f"ILSVRC2012_val_0000000{i}.JPEG" for i in range(3)]
    for name in names:
        Image.new("RGB", (8, 8)).save(flat / name)
    cfg = dataset(folder, str(flat / "val.txt"))
    for numbers, expected in (((2, 0, 2), [2, 0, 2]), ((1, 1, 0), [1, 1, 0])):
        (flat / "val.txt").write_text("".join(f"{n} {i}\n" for n, i in zip(names, numbers, strict=True)))
        prepare_datasets(cfg)
        assert [r["label"] for r in records("prepared_val")] == expected
        cfg = dataset(folder, str(flat / "val.txt"))
        DatasetCatalog.remove("prepared_val")
        MetadataCatalog.remove("prepared_val")
    with pytest.raises(DatasetError, match="class 0, 1 has no training image"):  # folders are names
        prepare_datasets(dataset(folder, fill(tmp_path / "numbered", {"0": 1, "1": 1})))
    (flat / "val.txt").write_text(f"{names[0]} 3\n")
    with pytest.raises(DatasetError, match=r"val\.txt: class 3 has no training image"):
        prepare_datasets(cfg)
    (flat / "val.txt").write_text("my photo 7.JPEG\n")  # a name with blanks, and no label
    with pytest.raises(DatasetError, match="line 1: no label"):
        prepare_datasets(cfg)
    with pytest.raises(DatasetError, match=r"not in a class folder.*lines path,label instead of"):
        prepare_datasets(dataset(folder, str(flat)))


def test_classes_that_are_numbers_keep_their_names(tmp_path):
    train = fill(tmp_path / "train", {"10": 1, "2": 1})
    (tmp_path / "val.txt").write_text("train/10/00.jpg,10\ntrain/2/00.jpg,2\n")
    cfg = dataset(train, str(tmp_path / "val.txt"))
    prepare_datasets(cfg)
    assert [r["label"] for r in records("prepared_val")] == [0, 1] and list(cfg.class_names) == ["10", "2"]


def dataset(train, val):
    call = {"_target_": register_labelled_images, "skip_bad_records": False}
    return OmegaConf.create(
        {
            "train": {**call, "name": "prepared_train", "images": train},
            "val": {**call, "name": "prepared_val", "images": val, "classes": None},
            "num_classes": None,
            "class_names": None,
        },
        flags={"allow_objects": True},
    )


def test_validation_takes_the_numbers_of_training(folder, tmp_path):
    cfg = dataset(folder, fill(tmp_path / "val", {"t-shirt": 2}))
    prepare_datasets(cfg)
    assert cfg.num_classes == 3 and list(cfg.class_names) == ["A", "b", "t-shirt"]
    assert [r["label"] for r in records("prepared_val")] == [2, 2]
    with pytest.raises(DatasetError, match="class hat has no training image"):
        prepare_datasets(dataset(folder, fill(tmp_path / "other", {"hat": 1})))


@pytest.mark.parametrize("verify", ["decode", "header", "none"])
def test_broken_images_are_named_or_left_out(folder, tmp_path, verify):
    (tmp_path / "train" / "b" / "01.jpg").write_text("no image")
    cut = tmp_path / "train" / "A" / "00.jpg"
    Image.effect_noise((40, 30), 90).convert("RGB").save(cut)
    cut.write_bytes(cut.read_bytes()[:-200])  # a whole header, and not all of the pixels
    name = f"broken_{verify}_train"
    bad = {"decode": 2, "header": 1, "none": 0}[verify]
    if bad:
        with pytest.raises(DatasetError, match=r"b/01\.jpg: Unidentified") as caught:
            register_labelled_images(name, folder, verify_images=verify)
        assert ("A/00.jpg" in str(caught.value)) == (verify == "decode")
        assert "--skip-bad-records" in str(caught.value)
    register_labelled_images(name, folder, verify_images=verify, skip_bad_records=True)
    assert len(records(name)) == 9 - bad
    assert list(MetadataCatalog.get(name).thing_classes) == ["A", "b", "t-shirt"]
    # what was not looked for is met later: each place still gives an image, and the same one each time
    loader = build_test_loader(name, LabelledImageMapper(np.array), batch_size=9)
    (batch,) = list(loader)
    assert len(batch) == 9 - bad and all(item["image"].shape == (30, 40, 3) for item in batch)
    assert not any(item["file_name"].endswith("b/01.jpg") for item in batch)


def test_nothing_but_broken_images(folder, tmp_path):
    for file in (tmp_path / "train").rglob("*.jpg"):
        file.write_text("no image")
    with pytest.raises(DatasetError, match="none of its 9 images can be read"):
        register_labelled_images("all_broken_train", folder, skip_bad_records=True)
    register_labelled_images("all_broken_train", folder, verify_images="none")
    with pytest.raises(DatasetError, match=r"A/00\.jpg: neither this image nor"):
        next(iter(build_test_loader("all_broken_train", LabelledImageMapper(np.array))))


@pytest.mark.parametrize(
    ("images", "words"), [("", r"dataset\.val\.images=FOLDER"), ("nowhere", "no such folder")]
)
def test_wrong_places_say_what_to_set(images, words):
    with pytest.raises(DatasetError, match=words):
        register_labelled_images("custom_val", images)


def test_an_image_outside_the_class_folders(folder, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "train" / "loose.png")
    with pytest.raises(DatasetError, match=r"loose\.png: it is not in a class folder"):
        register_labelled_images("loose_train", folder)


def mapper(**options):
    view = create_transform(
        24,
        is_training=True,
        auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="bicubic",
        use_prefetcher=True,
    )
    return LabelledImageMapper(view, **options)


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(6):
        path = tmp_path / "noise" / f"c{i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    return register_labelled_images("noise_train", str(tmp_path / "noise"))


def take(name, count, **options):
    options = {"total_batch_size": 4, "seed": 3, **options}
    loader = build_train_loader(
        name, mapper(seed=5), aspect_ratio_grouping=False, filter_empty=False, **options
    )
    batches = [[item["image"] for item in batch] for batch in itertools.islice(loader, count)]
    return torch.stack([image for batch in batches for image in batch])


def test_samples_depend_on_their_place_only(pictures):
    whole = take(pictures, 5)
    assert whole.dtype == torch.uint8 and whole.shape == (20, 3, 24, 24)
    assert torch.equal(take(pictures, 5, num_workers=2), whole)
    torch.manual_seed(99)
    random.seed(99)
    assert torch.equal(take(pictures, 2, start_iter=3), whole[12:])
    record = records(pictures)[0]
    first, other = mapper(seed=5)(record, 0)["image"], mapper(seed=5)(record, 6)["image"]
    assert not torch.equal(first, other)  # another epoch is another view


def test_outer_random_state_is_neither_used_nor_changed(pictures):
    record, images = records(pictures)[0], []
    for seed in (1, 2):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        images.append(mapper(seed=5)(record, 4)["image"])
        after = torch.rand(1).item(), random.random(), np.random.rand()
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        assert after == (torch.rand(1).item(), random.random(), np.random.rand())
    assert torch.equal(*images)


def test_large_pictures_are_decoded_smaller(tmp_path):
    fill(tmp_path / "large", {"a": 1}, size=(1200, 800))
    record = {"file_name": str(tmp_path / "large" / "a" / "00.jpg"), "label": 0, "image_id": 0}
    for min_side, side in ((None, 800), (800, 800), (300, 400), (190, 200)):
        assert LabelledImageMapper(np.array, min_side=min_side)(record)["image"].shape[0] == side


@pytest.mark.parametrize("policy", ["rand-m9-mstd0.5-inc1", "rand-m10-inc1", "v0r", "augmix-m5-w4-d2"])
def test_posterize_keeps_a_bit(policy, pictures):
    """At the highest magnitude timm asks Pillow to keep no bit, and Pillow 13 refuses."""
    view = create_transform(24, is_training=True, auto_augment=policy, use_prefetcher=True)
    LabelledImageMapper(view)
    chosen = [op for op in _operations(view) if op.name.startswith("Posterize")]
    assert chosen or "aug" in policy
    picture = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    for op in chosen:
        op.prob, op.magnitude_std = 1.0, 0.0
        for op.magnitude in (0, 5, 9.9, 10):
            seen = np.array(op(picture))
            assert seen.shape == (8, 8, 3) and len(np.unique(seen)) >= 2
    before = [op.level_fn for op in chosen]
    keep_a_bit(view)
    assert [op.level_fn for op in chosen] == before  # once is enough
    pickle.loads(pickle.dumps(view))  # goes to the loader's processes
