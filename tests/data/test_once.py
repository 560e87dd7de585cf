"""One process of a machine reads, all have what it has read."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from omegaconf import OmegaConf

from itpn_d2.data import build_train_loader, prepare_datasets, read_once, register_coco
from itpn_d2.data.image_sources import image_folder
from itpn_d2.data.record_table import RecordTable
from itpn_d2.data.scenes import generate_scenes
from itpn_d2.engine.launch import _set_local_group
from itpn_d2.errors import DatasetError
from tests.engine.forked import forked


def test_a_table_holds_the_records():
    records = [{"number": n, "text": "é" * n, "box": [n / 3, 1.0]} for n in range(7)]
    table = RecordTable(iter(records))
    assert list(table) == records and table[-1] == records[-1] and len(table) == 7
    assert list(table[2:5]) == records[2:5]
    assert list(table.take([5, 0]).take([1])) == [records[0]]
    assert not RecordTable(()) and not table.take(())
    with pytest.raises(IndexError):
        table[7]
    table[0]["number"] = 5  # of a copy
    assert table[0]["number"] == 0


def maps(array):
    """Whether an array lies in a mapped file, not in this process's own memory."""
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(number, 16) for number in line.split()[0].split("-"))
        if start <= address < end:
            return "(deleted)" in line
    return False


def together(main):
    def start():
        _set_local_group(2)
        return main()

    return start


def test_arrays_are_mapped_and_nothing_is_left(tmp_path, monkeypatch):
    place = tmp_path / "temporary"
    place.mkdir()
    (tmp_path / "images" / "a").mkdir(parents=True)
    for number in range(3):
        (tmp_path / "images" / "a" / f"{number}.png").touch()

    def main():
        tempfile.tempdir = str(place)
        calls = []

        def read():
            calls.append(1)
            return image_folder(str(tmp_path / "images"), labelled=True), np.arange(5), "text"

        source, numbers, text = read_once("images", read)
        mapped = maps(source.paths._data), maps(numbers), maps(source.labels)
        return (
            len(calls),
            [source.path(i) for i in range(3)],
            numbers.tolist(),
            text,
            mapped,
            os.listdir(place),
        )

    found = forked(2, together(main), tmp_path)
    assert [calls for calls, *_ in found] == [1, 0]
    paths = [str(tmp_path / "images" / "a" / f"{n}.png") for n in range(3)]
    for _, *rest in found:
        assert rest == [paths, [0, 1, 2, 3, 4], "text", (True, True, True), []]


def test_an_error_reaches_all(tmp_path):
    def main():
        def fail():
            raise DatasetError(f"{tmp_path}: it is broken; mend it")

        try:
            read_once("images", fail)
        except DatasetError as error:
            return str(error)

    assert forked(2, together(main), tmp_path) == [f"{tmp_path}: it is broken; mend it"] * 2

    def unforeseen():
        try:
            read_once("images", lambda: 1 / 0)
        except (ZeroDivisionError, RuntimeError) as error:
            return f"{type(error).__name__}: {error}"

    assert forked(2, together(unforeseen), tmp_path) == [
        "ZeroDivisionError: division by zero",
        "RuntimeError: process 0 failed while it read: ZeroDivisionError: division by zero",
    ]


class Files:
    """A mapper that tells the file."""

    def __call__(self, record, position=0):
        return {"file": os.path.basename(record["file_name"]), "boxes": len(record["annotations"])}


def prepared(folder):
    """The config's section, and how often this process has parsed a json."""
    from itpn_d2.data import coco_check

    parsed, read = [], coco_check.read_json

    def counted(path, *rest, **options):
        parsed.append(str(path))
        return read(path, *rest, **options)

    call = {
        "_target_": register_coco,
        "json": str(folder / "instances.json"),
        "images": str(folder / "images"),
        "skip_bad_records": False,
        "verify_images": "none",
    }
    names = {split: {**call, "name": f"once_{split}"} for split in ("train", "val")}
    dataset = OmegaConf.create(
        {**names, "num_classes": None, "class_names": None}, flags={"allow_objects": True}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coco_check, "read_json", counted)
        prepare_datasets(dataset)
    return dataset, len(parsed)


def batches(folder):
    dataset, parsed = prepared(folder)
    loader = build_train_loader("once_train", Files(), 4, seed=3, repeat_threshold=0.9)
    found, iterator = [], iter(loader)
    for _ in range(6):
        found.append([(sample["file"], sample["boxes"], sample["position"]) for sample in next(iterator)])
    metadata = {k: v for k, v in MetadataCatalog.get("once_val").as_dict().items()}
    records = list(DatasetCatalog.get("once_val"))
    return parsed, int(dataset.num_classes), found, metadata, records, type(loader.dataset.records).__name__


def test_a_json_is_parsed_once_and_trained_on_in_the_same_order(tmp_path):
    folder = generate_scenes(tmp_path, "train", 9, 64, 3)
    parsed, classes, whole, metadata, records, kind = batches(folder)
    assert parsed == 2 and kind == "DatasetFromList"  # of two sets
    found = forked(2, together(lambda: batches(folder)), tmp_path)
    assert [each[0] for each in found] == [2, 0]
    for rank, (_, known, parts, told, listed, kind) in enumerate(found):
        assert (known, told, listed, kind) == (classes, metadata, records, "RecordTable")
        assert parts == [batch[2 * rank : 2 * rank + 2] for batch in whole]


def test_a_bad_json_is_refused_by_both_with_one_message(tmp_path):
    folder = generate_scenes(tmp_path, "train", 3, 64, 3)
    (folder / "instances.json").write_text("{")

    def main():
        try:
            prepared(folder)
        except DatasetError as error:
            return str(error)

    one, other = forked(2, together(main), tmp_path)
    assert one == other and str(folder / "instances.json") in one


def test_processes_that_share_no_machine_read_themselves(tmp_path):
    assert forked(2, lambda: read_once("it", comm.get_rank), tmp_path) == [0, 1]
