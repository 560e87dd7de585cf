"""The package that sets of LVIS need: missing, too old for this numpy, or as it should be."""

import sys

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from itpn_d2.data import register_builtin
from itpn_d2.errors import DatasetError
from itpn_d2.evaluation.by_type import build_registered_evaluator


@pytest.fixture
def name(monkeypatch):
    for module in [m for m in sys.modules if m.split(".")[0] == "lvis"]:
        monkeypatch.delitem(sys.modules, module)
    DatasetCatalog.register("lvis_of_tests", lambda: [])
    MetadataCatalog.get("lvis_of_tests").evaluator_type = "lvis"
    yield "lvis_of_tests"
    DatasetCatalog.remove("lvis_of_tests")
    MetadataCatalog.remove("lvis_of_tests")
    for module in [m for m in sys.modules if m.split(".")[0] == "lvis"]:
        del sys.modules[module]


def package(folder, code):
    (folder / "lvis").mkdir()
    (folder / "lvis" / "__init__.py").write_text("")
    (folder / "lvis" / "eval.py").write_text(code)


def test_missing(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "lvis", None)
    for use in (register_builtin, build_registered_evaluator):
        with pytest.raises(DatasetError, match="'lvis_of_tests': it needs lvis.*pip install lvis"):
            use(name)


def test_too_old_for_this_numpy(tmp_path, monkeypatch, name):
    package(tmp_path, "SUM = 'np.cumsum(x).astype(dtype=np.float)'")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DatasetError, match=r"eval.py uses np.float, which numpy .*replace np.float by float"):
        register_builtin(name)


def test_as_it_should_be(tmp_path, monkeypatch, name):
    package(tmp_path, "SUM = 'np.cumsum(x).astype(dtype=float)'")
    monkeypatch.syspath_prepend(tmp_path)
    assert register_builtin(name) == name


def test_a_folder_of_pascal_voc_that_is_missing(tmp_path):
    DatasetCatalog.register("voc_of_tests", lambda: [])
    MetadataCatalog.get("voc_of_tests").set(evaluator_type="pascal_voc", dirname=str(tmp_path / "VOC2007"))
    try:
        with pytest.raises(DatasetError, match=r"VOC2007 is missing; set DETECTRON2_DATASETS"):
            register_builtin("voc_of_tests")
    finally:
        DatasetCatalog.remove("voc_of_tests")
        MetadataCatalog.remove("voc_of_tests")
