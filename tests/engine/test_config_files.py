"""Configs of the project by name, from any folder."""

import pytest

from itpn_d2.engine import config_files, load_config
from itpn_d2.engine.config_files import configs_folder, find_config_file
from itpn_d2.errors import ConfigError
from itpn_d2.model_zoo import get_entry

QUICKSTART = "Quickstart/mask_rcnn_fast_itpn_nano"


@pytest.mark.parametrize("form", ["{}", "{}.py", "configs/{}.py", "./configs/{}"])
def test_a_config_of_the_project(form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = form.format(QUICKSTART)
    assert find_config_file(name) == configs_folder() / f"{QUICKSTART}.py"
    assert load_config(name).train.output_dir == "output/quickstart"


def test_the_last_part_is_enough_where_it_is_unique():
    assert find_config_file("dino_fast_itpn_tiny_1x").parent.name == "COCO-Detection"
    with pytest.raises(ConfigError, match=r"several configs.*Custom/mask_rcnn.*Quickstart/mask_rcnn"):
        find_config_file("mask_rcnn_fast_itpn_nano")


def test_a_file_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dino_fast_itpn_tiny_1x").write_text("")
    assert find_config_file("dino_fast_itpn_tiny_1x").resolve() == tmp_path / "dino_fast_itpn_tiny_1x"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Quickstart/mask_rcnn_fast_itpn_nan", f"did you mean {QUICKSTART}"),
        ("configs/Quickstart/zzzzzzzzzzzz.py", "no config of the project has this name"),
        ("common/train.py", "no config of the project has this name"),
    ],
)
def test_no_such_config(name, words):
    with pytest.raises(ConfigError, match=f"{name}: no such file.*{words}"):
        find_config_file(name)


def test_every_config_of_the_zoo_is_found_by_its_file():
    names = [n for n in config_files._known() if n.endswith(".py")]
    assert len(names) > 100 and all(get_entry(f"configs/{n}").config == n for n in names)
