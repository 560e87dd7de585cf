"""Sources: what they list, in which order, and what they refuse; tables that stay small."""

import json
import os
import pickle
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from itpn_d2.data import DatasetError
from itpn_d2.data.image_sources import PathTable, coco_images, image_folder, scenes, text_list


def listed(source):
    return [source.paths[i] for i in range(len(source))]


@pytest.fixture
def tree(tmp_path):
    for name in ("b/2.PNG", "b/10.jpg", "a/deep/er/x.jpeg", "a/notes.txt", ".hidden/y.png", "b/.z.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "c").mkdir()
    return tmp_path


def test_table_is_a_sequence():
    strings = ["a/b.png", "", "ünï/コード.jpg", os.fsdecode(b"not-utf8-\xff.png")]
    table = PathTable(iter(strings))
    assert list(table) == strings and table[-1] == strings[-1] and len(table) == 4
    assert list(pickle.loads(pickle.dumps(table))) == strings
    assert len(PathTable([])) == 0
    for index in (4, -5):
        with pytest.raises(IndexError):
            table[index]


def test_a_million_paths_take_two_arrays():
    count, length = 1_000_000, len("0000000/image.jpg")
    table = PathTable(f"{i:07d}/image.jpg" for i in range(count))
    assert table[123_456] == "0123456/image.jpg" and len(table) == count
    assert table.nbytes == count * (length + 8) + 8
    assert len(pickle.dumps(table)) < table.nbytes + 1000


def test_building_a_table_keeps_no_objects():
    tracemalloc.start()
    try:
        table = PathTable(f"{i:07d}/image.jpg" for i in range(50_000))
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1.3 * table.nbytes and peak < 3 * table.nbytes  # a list of str takes 3.5 times nbytes


def test_folder_is_sorted_and_recursive(tree):
    source = image_folder(str(tree))
    assert listed(source) == ["a/deep/er/x.jpeg", "b/10.jpg", "b/2.PNG"]
    assert source.path(2) == str(tree / "b/2.PNG") and source.labels is None
    assert source.summary == {"kind": "folder", "root": str(tree), "images": 3}
    assert listed(image_folder(str(tree), extensions=(".JPG",))) == ["b/10.jpg"]


def test_folder_labels_are_its_folders(tree):
    source = image_folder(str(tree), labelled=True)
    assert source.classes == ("a", "b", "c") and source.labels is not None
    assert source.labels.tolist() == [0, 1, 1] and source.labels.dtype == np.int32
    (tree / "loose.png").touch()
    with pytest.raises(DatasetError, match=r"loose\.png: it is not in a class folder"):
        image_folder(str(tree), labelled=True)


def test_folder_follows_links_but_not_in_circles(tree, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "l.png").touch()
    (tree / "c" / "link").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(elsewhere)
    (tree / "c" / "up").symlink_to(tree)
    assert listed(image_folder(str(tree)))[3:] == ["c/link/l.png"]


def test_folder_refuses(tmp_path):
    for path in ("", str(tmp_path / "none")):
        with pytest.raises(DatasetError, match="no such folder; give the path"):
            image_folder(path)
    with pytest.raises(DatasetError, match=r"no image; files ending in \.jpg"):
        image_folder(str(tmp_path))


def test_coco_keeps_the_order_of_the_json(tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"images": [{"file_name": "z.jpg"}, {"file_name": "s/a.jpg"}]}))
    source = coco_images(str(file), str(tmp_path))
    assert listed(source) == ["z.jpg", "s/a.jpg"]
    assert source.summary == {"kind": "coco", "root": str(tmp_path), "file": str(file), "images": 2}


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "no such file"),
        ("{", "not a json file"),
        ("[]", "(is missing or not a list|this is a list)"),
        ('{"images": {}}', "(is missing or not a list|this is a list)"),
        ('{"images": []}', "is empty"),
        ('{"images": [{"file_name": "a"}, {"id": 1}]}', r"images\[1\]: (no file_name|3 is not an object)"),
        ('{"images": [3]}', r"images\[0\]: (no file_name|3 is not an object)"),
    ],
)
def test_coco_refuses(tmp_path, text, message):
    file = tmp_path / "a.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(DatasetError, match=rf"a\.json: .*{message}"):
        coco_images(str(file), str(tmp_path))


def test_coco_needs_its_images(tmp_path):
    (tmp_path / "a.json").write_text('{"images": [{"file_name": "a"}]}')
    with pytest.raises(DatasetError, match="none: no such folder"):
        coco_images(str(tmp_path / "a.json"), str(tmp_path / "none"))


def test_list_skips_comments_and_takes_absolute_paths(tmp_path):
    file = tmp_path / "images.txt"
    file.write_bytes(b"\xef\xbb\xbf# mine\r\n\r\na b.jpg\n  /abs/c.png  \n\nbad-\xff.png")
    source = text_list(str(file))
    assert listed(source) == ["a b.jpg", "/abs/c.png", os.fsdecode(b"bad-\xff.png")]
    assert source.path(0) == str(tmp_path / "a b.jpg") and source.path(1) == "/abs/c.png"
    assert source.summary == {"kind": "list", "root": str(tmp_path), "file": str(file), "images": 3}
    (tmp_path / "sub").mkdir()
    assert text_list(str(file), str(tmp_path / "sub")).path(0) == str(tmp_path / "sub" / "a b.jpg")


def test_list_refuses(tmp_path):
    file = tmp_path / "images.txt"
    with pytest.raises(DatasetError, match=r"images\.txt: no such file"):
        text_list(str(file))
    file.write_text("# nothing\n")
    with pytest.raises(DatasetError, match=r"images\.txt: no image"):
        text_list(str(file))
    with pytest.raises(DatasetError, match="none: no such folder"):
        text_list(str(file), str(tmp_path / "none"))


def test_list_with_labels(tmp_path):
    file = tmp_path / "images.csv"
    file.write_text("# mine\npath,label\na, b.jpg,hat\nc.jpg\tred, dress\n\nd.jpg , hat\n")
    source = text_list(str(file), labelled=True)
    assert listed(source) == ["a, b.jpg", "c.jpg", "d.jpg"]
    assert source.classes == ("hat", "red, dress") and source.labels is not None
    assert source.labels.tolist() == [0, 1, 0] and source.labels.dtype == np.int32
    assert source.summary == {"kind": "list", "root": str(tmp_path), "file": str(file), "images": 3}
    file.write_text("a,10\nb,9\nc,10\npath,9\n")
    source = text_list(str(file), labelled=True)
    assert source.classes == ("9", "10") and source.labels is not None
    assert source.labels.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("line", ["b.jpg", "b.jpg,", ",hat"])
def test_list_misses_a_label(tmp_path, line):
    file = tmp_path / "images.csv"
    file.write_text(f"a.jpg,hat\n{line}\n")
    with pytest.raises(DatasetError, match=r"images\.csv, line 2: no label; write path,label"):
        text_list(str(file), labelled=True)


def test_list_of_labels_is_empty(tmp_path):
    file = tmp_path / "images.csv"
    file.write_text("path,label\n")
    with pytest.raises(DatasetError, match=r"images\.csv: no image; write path,label"):
        text_list(str(file), labelled=True)


def test_scenes_are_drawn_once(tmp_path):
    source = scenes("train", 3, 48, 5, root=str(tmp_path))
    assert listed(source) == ["00000.png", "00001.png", "00002.png"]
    assert source.summary["kind"] == "scenes" and source.summary["images"] == 3
    with Image.open(source.path(0)) as image:
        assert image.size == (48, 48)
    assert scenes("train", 3, 48, 5, root=str(tmp_path)).summary == source.summary
