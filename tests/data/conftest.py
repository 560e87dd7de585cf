"""Generated pictures with a json of them that is registered, or a folder of their own."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from itpn_d2.data import register_coco
from tests.data.coco_sets import HEIGHT, WIDTH


@pytest.fixture
def write(tmp_path, monkeypatch, request):
    """From a json to the name of the registered set, whose pictures are there under their plain names."""
    monkeypatch.setenv("ITPN_D2_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "pictures"
    folder.mkdir()

    def register(data, raw=None, encoding="utf-8", names=None, size=(WIDTH, HEIGHT), **options):
        for number in range(1, 4):
            path = folder / (names or {}).get(number, f"picture {number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, (90, 20 * number, 60)).save(path)
        path = tmp_path / "data.json"
        path.write_bytes(raw if raw is not None else json.dumps(data).encode(encoding))
        return register_coco(f"{request.node.name}_val", str(path), str(folder), **options)

    return register


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with three pictures, and catalogs that are afterwards as before."""
    monkeypatch.setenv("ITPN_D2_CACHE", str(tmp_path / "cache"))
    for number in range(1, 4):
        Image.new("RGB", (WIDTH, HEIGHT), (90, 20 * number, 60)).save(tmp_path / f"picture {number}.png")
    before = set(DatasetCatalog.list())
    yield tmp_path
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
