"""Sets of Hugging Face's ``datasets`` as a source: the same images in the same order as from their folder."""

import itertools
import pickle
import sys

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from PIL import Image

from itpn_d2.data import hf_images, labelled_source, register_labelled_images
from itpn_d2.data.arrow import is_arrow, open_arrow
from itpn_d2.data.image_sources import image_folder
from itpn_d2.data.read import read_image
from itpn_d2.data.shards import ShardTable
from itpn_d2.errors import DatasetError
from pretrain.data import ImageDataset, TrainView, build_pretrain_loader
from tests.data.arrow_sets import COUNT, made, pictures, rows
from tests.data.orders import order

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ITPN_D2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.fixture
def saved(tmp_path):
    made(datasets).save_to_disk(tmp_path / "saved", num_shards=3)
    return tmp_path / "saved"


@pytest.fixture
def parquet(tmp_path):
    (tmp_path / "parquet" / "data").mkdir(parents=True)
    for split in ("train", "test"):
        for part in range(2):
            name = f"{split}-0000{part}-of-00002.parquet"
            made(datasets).shard(2, part, contiguous=True).to_parquet(tmp_path / "parquet" / "data" / name)
    return tmp_path / "parquet"


def check(source):
    expected = pictures()
    assert len(source) == COUNT
    for number in range(COUNT):
        assert (read_image(source.path(number)) == expected[number]).all()


def test_a_folder_of_save_to_disk(saved):
    source = hf_images(str(saved))
    check(source)
    assert source.labels is None and source.summary == {"kind": "arrow", "root": str(saved), "images": COUNT}
    assert isinstance(source.paths, ShardTable) and len({p.rpartition("#")[0] for p in source.paths}) == 3


def test_parquet(parquet):
    check(hf_images(str(parquet), "test"))
    check(hf_images(f"{parquet}#test"))
    check(hf_images(f"{parquet}/data/train-*.parquet"))
    one = hf_images(str(parquet / "data" / "train-00001-of-00002.parquet"))
    assert len(one) == COUNT // 2 and (read_image(one.path(0)) == pictures()[COUNT - COUNT // 2]).all()


def test_a_folder_of_images_with_metadata(tmp_path):
    """``datasets`` then has paths instead of bytes."""
    folder = tmp_path / "folder" / "train"
    folder.mkdir(parents=True)
    for number, array in enumerate(pictures()):
        Image.fromarray(array).save(folder / f"{number:02}.png")
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "folder"), split="train")
    loaded.cast_column("image", datasets.Image(decode=False)).to_parquet(tmp_path / "paths.parquet")
    loaded.save_to_disk(tmp_path / "saved")
    check(hf_images(str(tmp_path / "saved")))
    check(hf_images(str(tmp_path / "paths.parquet")))


def test_order_is_the_same_for_any_number_of_processes_and_after_a_resume(saved, tmp_path):
    source = hf_images(str(saved))
    (tmp_path / "plain").mkdir()
    for number, array in enumerate(pictures()):
        Image.fromarray(array).save(tmp_path / "plain" / f"{number:02}.png")

    whole = order(source, 1)
    assert order(source, 2) == order(source, 4) == whole and order(source, 2, start=3) == whole[3:]

    def images(source, start, workers=0):
        loader = build_pretrain_loader(source, TrainView(size=16, seed=1), 4, workers, 3, start_iter=start)
        return [batch["image"] for batch in itertools.islice(loader, 5 - start)]

    arrow, plain = images(source, 0), images(image_folder(str(tmp_path / "plain")), 0)
    assert all(torch.equal(a, b) for a, b in zip(arrow, plain, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(images(source, 2, workers=1), arrow[2:], strict=True))


def test_workers_get_the_place_of_a_mapped_table(saved):
    paths = hf_images(str(saved)).paths
    copy = pickle.loads(pickle.dumps(paths))
    assert len(pickle.dumps(paths)) < 2000 and isinstance(copy._rows, np.memmap) and list(copy) == list(paths)


def test_a_set_that_is_written_anew_is_read_anew(saved):
    before = list(hf_images(str(saved)).paths)
    made(datasets, rows(seed=1, count=5)).save_to_disk(saved)
    found = hf_images(str(saved))
    assert len(found) == 5 and list(found.paths) != before
    assert (read_image(found.path(4)) == pictures(1, 5)[4]).all()


def test_labels(saved, tmp_path):
    source = labelled_source(str(saved))
    assert source.classes == ("cat", "dog") and source.labels.tolist() == [i % 2 for i in range(COUNT)]
    texts = made(datasets).cast_column("label", datasets.Value("int64"))
    texts.map(lambda r: {"label": f"kind {r['label']}"}).save_to_disk(tmp_path / "texts")
    assert hf_images(str(tmp_path / "texts"), labelled=True).classes == ("kind 0", "kind 1")
    numbers = (
        made(datasets).cast_column("label", datasets.Value("int64")).map(lambda r: {"label": 10 + r["label"]})
    )
    numbers.save_to_disk(tmp_path / "numbers")
    assert hf_images(str(tmp_path / "numbers"), labelled=True).classes == ("10", "11")
    name = register_labelled_images("arrow_labels", str(saved))
    record = DatasetCatalog.get(name)[3]
    assert record["label"] == 1 and (read_image(record["file_name"]) == pictures()[3]).all()


def test_splits(tmp_path, parquet):
    datasets.DatasetDict(train=made(datasets), val=made(datasets, rows(1, 3))).save_to_disk(tmp_path / "two")
    assert len(hf_images(f"{tmp_path}/two#val")) == 3 and len(hf_images(f"{tmp_path}/two", "train")) == COUNT
    assert len(hf_images(f"{tmp_path}/two/val")) == 3
    for place in (tmp_path / "two", parquet):
        with pytest.raises(DatasetError, match="several splits; there are train"):
            hf_images(str(place))
        with pytest.raises(DatasetError, match="no split 'other'; there are train"):
            hf_images(f"{place}#other")
    with pytest.raises(DatasetError, match="files have no splits"):
        hf_images(f"{parquet}/data/train-*.parquet#test")
    with pytest.raises(DatasetError, match="#val in the address and split='train'"):
        hf_images(f"{tmp_path}/two#val", "train")


def test_which_places_are_such_sets(saved, parquet, tmp_path):
    yes = [
        saved,
        parquet,
        f"{parquet}#test",
        "hf://datasets/some/set",
        "hf://datasets/set@refs/convert/parquet#a",
    ]
    no = [
        tmp_path,
        "",
        "/nowhere",
        "hf://datasets/some/set/train-*.tar",
        "s3://bucket/a.tar",
        "hf://some/model",
    ]
    assert all(is_arrow(str(p)) for p in yes) and not any(is_arrow(str(p)) for p in no)


def test_a_damaged_picture_is_replaced_and_counted(tmp_path):
    given = rows()
    given[1]["image"]["bytes"] = b"no picture at all"
    made(datasets, given).save_to_disk(tmp_path / "saved")
    source = hf_images(str(tmp_path / "saved"))
    sample = ImageDataset(source, TrainView(size=16))[(5, 1)]
    assert sample["index"] != 1 and [name for name, _ in sample["broken"]] == [source.path(1)]


def test_what_is_refused(saved, tmp_path, monkeypatch):
    def refused(words, place, **options):
        with pytest.raises(DatasetError, match=words):
            hf_images(str(place), **options)

    refused("no such dataset; give a folder written by save_to_disk", tmp_path / "nothing.parquet")
    refused("no column 'photo'; it has image, label", saved, image="photo")
    refused(
        "several columns of pictures.*image=NAME",
        made_as(tmp_path, "a", {"image": "one", "annotation": "two"}),
    )
    refused("no column of pictures", made_as(tmp_path, "b", {}, without=["image", "annotation"]))
    refused("'label' is of int64.*cast it to datasets", saved, image="label")
    given = rows()
    given[4]["image"] = None
    made(datasets, given).save_to_disk(tmp_path / "without")
    refused("1 of its 11 rows have no image in column 'image', the first is number 4", tmp_path / "without")
    given[4]["label"] = -1
    made(datasets, given).save_to_disk(tmp_path / "unlabelled")
    with pytest.raises(
        DatasetError, match=r"1 of its 11 rows have no label in column 'label'.*number 4 \(-1\)"
    ):
        open_arrow(str(tmp_path / "unlabelled")).labels()
    (saved / "data-00001-of-00003.arrow").write_bytes(b"ARROW1")
    refused("it can't be read", saved)
    monkeypatch.setitem(sys.modules, "datasets", None)
    refused(r"pip install 'itpn-d2\[hf\]'", saved)


def made_as(tmp_path, name, renamed, without=()):
    made(datasets).rename_columns(renamed).remove_columns(list(without)).save_to_disk(tmp_path / name)
    return tmp_path / name


def test_compressed_arrow_is_refused(saved):
    import pyarrow

    for file in saved.glob("*.arrow"):
        with pyarrow.memory_map(str(file)) as source:
            table = pyarrow.ipc.open_stream(source).read_all()
        options = pyarrow.ipc.IpcWriteOptions(compression="zstd")
        file.unlink()
        with (
            pyarrow.OSFile(str(file), "wb") as out,
            pyarrow.ipc.new_stream(out, table.schema, options=options) as w,
        ):
            w.write_table(table)
    with pytest.raises(DatasetError, match="compressed.*save_to_disk"):
        hf_images(str(saved))


def test_code_of_a_set_is_never_run(tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    mark = tmp_path / "it ran"
    (folder / "theirs.py").write_text(f"open({str(mark)!r}, 'w')\n")
    made(datasets).to_parquet(folder / "a.parquet")
    with pytest.raises(DatasetError, match="The code of a dataset is never run: convert it to parquet"):
        hf_images(str(folder))
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "a.csv").write_text("image,label\na.png,1\n")
    with pytest.raises(
        DatasetError,
        match="its format is 'csv'; only datasets in the formats arrow, imagefolder, parquet, webdataset",
    ):
        hf_images(str(tmp_path / "tables"))
    assert not mark.exists()


def test_a_run_without_the_hub_says_what_failed():
    with pytest.raises(DatasetError, match=r"hf://datasets/some/set#train: it can't be read \("):
        hf_images("hf://datasets/some/set#train")
