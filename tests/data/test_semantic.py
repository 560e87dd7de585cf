"""Label images of one's own: what they mean, each kind of bad pair, ADE20K's folder, the training sample."""

import os
import unicodedata

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from omegaconf import OmegaConf
from PIL import Image

from itpn_d2.data import (
    DatasetError,
    Labelling,
    SemanticMapper,
    build_train_loader,
    build_val_loss_loader,
    prepare_datasets,
    read_labels,
    register_ade20k,
    register_semantic,
    semantic_augmentations,
)
from itpn_d2.data.semantic import class_names

NAMES = ["road", "sky", "tree"]


@pytest.fixture
def folders(tmp_path):
    """Three images of 24x20 with labels 0..2 and 255; one lies in a subfolder."""
    rng = np.random.default_rng(0)
    for name in ("a", "b", "deep/c"):
        for part in ("images", "labels"):
            (tmp_path / part / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(
            str(tmp_path / "images" / f"{name}.jpg"), rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)
        )
        labels = rng.choice(np.array([0, 1, 2, 255], np.uint8), (20, 24))
        Image.fromarray(labels).save(tmp_path / "labels" / f"{name}.png")
    (tmp_path / "classes.txt").write_text("road\nsky\n\ntree\n")
    return tmp_path


def register(folders, name="semantic_test", **options):
    classes = options.pop("classes", str(folders / "classes.txt"))
    return register_semantic(name, str(folders / "images"), str(folders / "labels"), classes, **options)


def test_a_good_set(folders):
    name = register(folders)
    records, metadata = DatasetCatalog.get(name), MetadataCatalog.get(name)
    assert [r["image_id"] for r in records] == ["a", "b", "deep/c"]
    assert all((r["width"], r["height"]) == (24, 20) for r in records)
    assert metadata.stuff_classes == NAMES and metadata.ignore_label == 255
    stored = np.array(Image.open(folders / "labels" / "a.png"))
    assert (read_labels(records[0]) == stored).all()


@pytest.mark.parametrize("kind", ["L", "P", "I;16", "1"])
def test_label_images_of_any_kind_hold_the_same_numbers(tmp_path, kind):
    numbers = np.array([[0, 1], [1, 0]], np.uint8)
    image = Image.fromarray(numbers)
    if kind == "P":
        image = image.convert("P")
        image.putdata([0, 1, 1, 0])
        image.putpalette([200, 10, 10, 20, 220, 30] + [0] * 762)  # what a viewer shows
    elif kind == "I;16":
        image = Image.fromarray(numbers.astype(np.uint16))
    elif kind == "1":
        image = Image.fromarray(numbers * 255).convert("1")
    image.save(tmp_path / "x.png")
    assert Labelling(2).read(str(tmp_path / "x.png")).tolist() == numbers.tolist()


def test_zero_as_other_and_another_ignored_number(tmp_path):
    Image.fromarray(np.array([[0, 1, 3, 77]], np.uint8)).save(tmp_path / "x.png")
    labelling = Labelling(3, zero_is_other=True, ignore_label=77)
    assert labelling.read(str(tmp_path / "x.png")).tolist() == [[255, 0, 2, 255]]
    with pytest.raises(DatasetError, match="number 3, 77 is not a class.*0 to 2.*zero_is_other"):
        Labelling(3).read(str(tmp_path / "x.png"))


def spoil(folders, what):
    images, labels = folders / "images", folders / "labels"
    if what == "image without labels":
        (labels / "a.png").unlink()
    elif what == "labels without image":
        (images / "a.jpg").unlink()
    elif what == "two images":
        cv2.imwrite(str(images / "a.png"), np.zeros((20, 24, 3), np.uint8))
    elif what == "two label images":
        Image.fromarray(np.zeros((20, 24), np.uint8)).save(labels / "a.bmp")
    elif what == "broken image":
        (images / "a.jpg").write_bytes((images / "a.jpg").read_bytes()[:200])
    elif what == "broken labels":
        (labels / "a.png").write_bytes(b"nothing")
    elif what == "wrong label size":
        Image.fromarray(np.zeros((24, 20), np.uint8)).save(labels / "a.png")
    elif what == "bad labels":
        Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(labels / "a.png")


KINDS = {
    "image without labels": "a.png",
    "labels without image": "no image a",
    "two images": "one of the two",
    "two label images": "one of the two",
    "broken image": "can't be read",
    "broken labels": "can't be read",
    "wrong label size": "20x24, but the image is 24x20",
    "bad labels": "colours instead of class numbers",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_pair_is_named_and_can_be_left_out(folders, kind):
    spoil(folders, kind)
    with pytest.raises(DatasetError) as caught:
        register(folders, f"refused {kind}")
    assert kind in str(caught.value) and KINDS[kind] in str(caught.value)
    assert "--skip-bad-records" in str(caught.value)
    kept = DatasetCatalog.get(register(folders, f"kept {kind}", skip_bad_records=True))
    expected = ["a", "b", "deep/c"] if kind.startswith("two") else ["b", "deep/c"]
    assert [r["image_id"] for r in kept] == expected


def test_a_number_that_is_no_class(folders):
    with pytest.raises(DatasetError, match="number 2 is not a class"):
        register(folders, classes=NAMES[:2])


def test_nothing_is_left(folders):
    for path in (folders / "labels").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DatasetError, match="no usable pair"):
        register(folders, skip_bad_records=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": ""}, r"dataset\.train\.images=PATH"),
        ({"labels": "nowhere"}, "labels=nowhere: no such folder"),
        ({"classes": ""}, r"dataset\.classes=FILE"),
        ({"classes": "nowhere.txt"}, "nowhere.txt: no such file"),
    ],
)
def test_what_was_not_given(folders, change, words):
    given = {"images": str(folders / "images"), "labels": str(folders / "labels"), "classes": NAMES, **change}
    with pytest.raises(DatasetError, match=words):
        register_semantic("semantic_none_train", **given)


@pytest.mark.parametrize(("text", "words"), [("", "no class name"), ("a\nb\na\n", "'a' occurs twice")])
def test_class_files(tmp_path, text, words):
    (tmp_path / "c.txt").write_text(text)
    with pytest.raises(DatasetError, match=words):
        class_names(str(tmp_path / "c.txt"))
    with pytest.raises(DatasetError, match="8-bit labels hold 255"):
        class_names([str(i) for i in range(256)])


def test_prepare_fills_in_the_classes(folders):
    target = "itpn_d2.data.register_semantic"
    paths = {"images": str(folders / "images"), "labels": str(folders / "labels"), "_target_": target}
    dataset = OmegaConf.create(
        {
            "classes": str(folders / "classes.txt"),
            "train": {**paths, "name": "prepared_train", "classes": "${dataset.classes}"},
            "val": {**paths, "name": "prepared_val", "classes": "${dataset.classes}"},
            "num_classes": None,
            "class_names": None,
        }
    )
    cfg = OmegaConf.create({"dataset": dataset})
    prepare_datasets(cfg.dataset)
    assert cfg.dataset.num_classes == 3 and list(cfg.dataset.class_names) == NAMES


def test_ade20k(tmp_path):
    for part in ("images", "annotations"):
        (tmp_path / part / "training").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "images/training/ADE_train_1.jpg"), np.zeros((8, 9, 3), np.uint8))
    stored = np.zeros((8, 9), np.uint8)
    stored[0, :3] = 1, 150, 2
    Image.fromarray(stored).save(tmp_path / "annotations/training/ADE_train_1.png")
    name = register_ade20k("ade_test_train", "training", str(tmp_path))
    (record,) = DatasetCatalog.get(name)
    labels = read_labels(record)
    assert labels[0].tolist()[:3] == [0, 149, 1] and (labels[1:] == 255).all()
    names = MetadataCatalog.get(name).stuff_classes
    assert len(names) == 150 and names[0] == "wall" and names[149].startswith("flag")
    with pytest.raises(DatasetError, match="ADEChallengeData2016.zip"):
        register_ade20k("ade_test_val", "validation", str(tmp_path))


def test_samples_are_views_of_image_and_labels_alike(folders):
    """Colours that name the class: after resizing, crop and flip they still do."""
    pixels, numbers = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.uint8)
    numbers[:, 30:] = 1
    numbers[20:] += 1
    pixels[:] = 60 * numbers[..., None]
    Image.fromarray(pixels).save(folders / "images" / "z.png")
    Image.fromarray(numbers).save(folders / "labels" / "z.png")
    name = register(folders, "views")
    record = next(r for r in DatasetCatalog.get(name) if r["image_id"] == "z")
    mapper = SemanticMapper(semantic_augmentations([40, 80], 200, [32, 32], colour=False), seed=3)
    seen = set()
    for position in range(12):
        sample = mapper(record, position)
        image, labels = sample["image"][0].float(), sample["sem_seg"]
        assert image.shape == labels.shape == (32, 32) and labels.dtype == torch.int64
        assert ((image / 60).round() == labels).float().mean() > 0.85  # but for blended edges
        again = mapper(record, position)
        assert torch.equal(again["image"], sample["image"]) and torch.equal(again["sem_seg"], labels)
        seen.add(float(image.sum()))
    assert len(seen) > 6


def test_loaders(folders):
    name = register(folders, "loaded")
    mapper = SemanticMapper(semantic_augmentations([20, 30], 60, [16, 16]))
    loader = build_train_loader(name, mapper, 2, aspect_ratio_grouping=False, filter_empty=False)
    batch = next(iter(loader))
    assert [tuple(b["sem_seg"].shape) for b in batch] == [(16, 16)] * 2
    val = list(build_val_loss_loader(name, SemanticMapper([]), filter_empty=False))
    assert len(val) == 3 and "sem_seg" in val[0][0]
    with pytest.raises(DatasetError, match="repeat_threshold"):
        build_train_loader(name, mapper, 2, filter_empty=False, repeat_threshold=0.1)


def test_unknown_sizes_can_not_be_grouped(folders):
    name = register(folders, "unseen", verify_images="none")
    assert "width" not in DatasetCatalog.get(name)[0]
    with pytest.raises(DatasetError, match="aspect_ratio_grouping=False"):
        build_train_loader(name, SemanticMapper([]), 2, filter_empty=False)


def test_a_difference_in_size_met_on_the_way(folders):
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(folders / "labels" / "a.png")
    record = DatasetCatalog.get(register(folders, "unchecked", verify_images="none"))[0]
    with pytest.raises(DatasetError, match="the image is 24x20, but its labels are 5x5"):
        SemanticMapper([])(record)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_class_files_of_any_encoding(tmp_path, encoding):
    (tmp_path / "c.txt").write_bytes("route\r\n\r\nforêt\r\n${x}\r\n???\r\n".encode(encoding))
    assert class_names(str(tmp_path / "c.txt")) == ["route", "forêt", "${x}", "???"]


@pytest.mark.parametrize(
    "content",
    [b"\xff\x01\x02", b"caf\xe9\n", b"a\x00b\n", b"\xff\xfe\x00\x00a", bytes(range(256))],
    ids=["bytes", "latin-1", "zero", "cut utf-32", "all bytes"],
)
def test_class_files_that_are_no_text(tmp_path, content):
    (tmp_path / "c.txt").write_bytes(content)
    with pytest.raises(DatasetError, match=r"c\.txt: (not a text file|it contains no class name)"):
        class_names(str(tmp_path / "c.txt"))


def test_a_class_file_that_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path):
        with pytest.raises(DatasetError, match="no such file"):
            class_names(str(place))


def test_names_of_classes_as_numbers():
    assert class_names([1, "two"]) == ["1", "two"]


def ignore_all(folders, *names):
    for name in names:
        Image.fromarray(np.full((20, 24), 255, np.uint8)).save(folders / "labels" / f"{name}.png")


def test_labels_that_are_all_ignored_are_said(folders, caplog):
    ignore_all(folders, "a", "b")
    with caplog.at_level("WARNING", "itpn_d2"):
        assert len(DatasetCatalog.get(register(folders))) == 3
    assert "2 x a label image whose pixels are all ignored" in caplog.text
    ignore_all(folders, "a", "b", "deep/c")
    with pytest.raises(DatasetError, match="all pixels of all label images are ignored.*ignore_label"):
        register(folders, "semantic_ignored")


def test_images_and_labels_of_other_unicode_forms(folders):
    for part, form, ending in (("images", "NFC", "jpg"), ("labels", "NFD", "png")):
        source = folders / part / f"a.{ending}"
        source.rename(source.with_name(unicodedata.normalize(form, f"é.{ending}")))
    assert len(DatasetCatalog.get(register(folders, "semantic_forms"))) == 3


def test_an_image_or_labels_that_are_a_pipe(folders):
    for part, ending in (("images", "jpg"), ("labels", "png")):
        (folders / part / f"a.{ending}").unlink()
        os.mkfifo(folders / part / f"a.{ending}")
        with pytest.raises(DatasetError, match="not a regular file"):
            register(folders, f"semantic_pipe_{part}")
