"""Batches: the same for any workers and after a resume; broken images are replaced and reported once."""

import itertools

import numpy as np
import pytest
import torch
from detectron2.utils import comm
from PIL import Image

from itpn_d2.data import DatasetError
from itpn_d2.data.sampler import stand_ins
from pretrain.data import (
    BrokenImages,
    ImageDataset,
    TestView,
    TrainView,
    build_image_loader,
    build_pretrain_loader,
    image_folder,
)

COUNT = 11


def fill(folder, count=COUNT):
    """``count`` images in two class folders; image ``i`` of the sorted paths is grey 20 i."""
    for i in range(count):
        path = folder / ("a" if i < count // 2 else "b") / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((40, 50, 3), 20 * i, np.uint8)).save(path)


@pytest.fixture
def source(tmp_path):
    fill(tmp_path)
    return image_folder(str(tmp_path), labelled=True)


@pytest.fixture
def damaged(tmp_path, source):
    """The source after three of its images broke, each in its way."""
    whole = (tmp_path / "a" / "01.png").read_bytes()
    (tmp_path / "a" / "01.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "a" / "03.png").write_text("text")
    (tmp_path / "b" / "08.png").write_bytes(b"")
    return source


BROKEN = {1, 3, 8}


def view(**options):
    return TrainView(**{"size": 16, "teacher_size": 24, "seed": 2, **options})


def take(source, count, **options):
    options = {"total_batch_size": 4, "seed": 3, **options}
    return list(itertools.islice(build_pretrain_loader(source, view(), **options), count))


def assert_same(a, b):
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert one.keys() == other.keys()
        assert all(
            torch.equal(one[k], other[k]) if isinstance(one[k], torch.Tensor) else one[k] == other[k]
            for k in one
        )


def test_batches_hold_what_the_view_and_the_source_give(source):
    batch = take(source, 1)[0]
    assert {k: (v.shape, v.dtype) for k, v in batch.items() if isinstance(v, torch.Tensor)} == {
        "image": ((4, 3, 16, 16), torch.uint8),
        "teacher_image": ((4, 3, 24, 24), torch.uint8),
        "index": ((4,), torch.int64),
        "label": ((4,), torch.int64),
    }
    assert batch["broken"] == [] and batch["position"] == [0, 1, 2, 3]
    assert batch["image"].amax((1, 2, 3)).tolist() == (20 * batch["index"]).tolist()
    assert batch["label"].tolist() == (batch["index"] >= COUNT // 2).int().tolist()


def test_no_labels_no_teacher(tmp_path, source):
    plain = image_folder(str(tmp_path))
    batch = next(iter(build_pretrain_loader(plain, view(teacher_size=None), 2)))
    assert set(batch) == {"image", "index", "position", "broken"}


def test_an_epoch_shows_everything_once(source):
    shown = torch.cat([b["index"] for b in take(source, COUNT)])  # four epochs
    assert [sorted(e.tolist()) for e in shown.split(COUNT)] == [list(range(COUNT))] * 4


def test_workers_do_not_matter(damaged):
    assert_same(take(damaged, 7), take(damaged, 7, num_workers=2))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resuming_gives_the_same_batches(damaged, num_workers):
    assert_same(take(damaged, 3, start_iter=5, num_workers=num_workers), take(damaged, 8)[5:])


def test_processes_share_a_batch(source, monkeypatch):
    whole = take(source, 3)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        shares.append(take(source, 3))
    for i, batch in enumerate(whole):
        assert torch.equal(torch.cat([s[i]["image"] for s in shares]), batch["image"])
    with pytest.raises(ValueError, match="multiple of 2"):
        take(source, 1, total_batch_size=3)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_broken_images_are_replaced_and_counted_once(damaged, num_workers):
    broken = BrokenImages()
    for batch in take(damaged, 2 * COUNT, num_workers=num_workers):  # each is met eight times
        assert len(batch["image"]) == 4 and not BROKEN & set(batch["index"].tolist())
        assert batch["image"].amax((1, 2, 3)).tolist() == (20 * batch["index"]).tolist()
        broken.add(batch["broken"])
    assert set(broken.reasons) == {damaged.path(i) for i in BROKEN} and len(broken) == 3
    assert broken.reasons[damaged.path(1)] == "OSError: image file is truncated"
    assert "UnidentifiedImageError" in broken.reasons[damaged.path(3)]


def test_stand_ins_differ_from_the_broken_image_and_from_each_other():
    for length in (2, 7, 150):
        for index, position in ((0, 0), (1, 12345), (length - 1, 10**12)):
            walk = list(stand_ins(index, position, length))
            assert walk[0] == index and len(walk) == len(set(walk)) == min(length, 100)
            assert all(0 <= i < length for i in walk)
    assert list(stand_ins(0, 9, 1)) == [0]
    assert len({list(stand_ins(5, p, 150))[1] for p in range(20)}) > 10  # not always the same one


@pytest.mark.parametrize("count", [1, 4])
def test_nothing_but_broken_images_is_fatal(tmp_path, count):
    for i in range(count):
        (tmp_path / f"{i}.png").write_text("text")
    with pytest.raises(DatasetError, match=r"\.png: UnidentifiedImageError.*holds the images"):
        ImageDataset(image_folder(str(tmp_path)), view())[0]


def test_errors_of_a_view_are_not_taken_for_broken_images(source):
    with pytest.raises(KeyError):
        ImageDataset(source, lambda image, position: {}["image"])[0]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_one_pass_in_order(damaged, num_workers):
    batches = list(build_image_loader(damaged, TestView(16), 4, num_workers))
    shown = torch.cat([b["index"] for b in batches]).tolist()
    assert len(shown) == COUNT
    assert all(seen == i for i, seen in enumerate(shown) if i not in BROKEN)
    assert {name for b in batches for name, _ in b["broken"]} == {damaged.path(i) for i in BROKEN}
