"""The config.yaml beside a file of weights is data: it tells classes, and nothing else."""

from pathlib import Path

import pytest
import yaml

from itpn_d2.errors import ConfigError
from itpn_d2.inference.configs import classes_of_run, find_config

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "Custom" / "mask_rcnn_fast_itpn_nano.py"
NAMES = ["${oc.env:HOME}", "???", "cat"]


def beside(folder, content):
    (folder / "config.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(folder / "model.pth")


def test_classes_are_told(tmp_path):
    told = {"num_classes": 3, "class_names": NAMES, "train": {"_target_": "os.mkdir", "path": "made"}}
    other = {"train": {"output_dir": "/elsewhere"}, "model": {"_target_": "os.system", "command": "false"}}
    weights = beside(tmp_path, {"dataset": told, **other})
    config, source = find_config(CONFIG, weights)
    assert source == weights and config.dataset.num_classes == 3
    assert list(config.dataset.class_names) == NAMES
    assert config.train.output_dir != "/elsewhere" and "GeneralizedRCNN" in str(config.model._target_)


@pytest.mark.parametrize(
    "told",
    [
        {"num_classes": {"_target_": "os.mkdir", "path": "made"}},
        {"num_classes": 0},
        {"num_classes": "${oc.env:HOME}"},
        {"class_names": "cat"},
        {"class_names": [1, 2]},
        {"class_names": [{"_target_": "os.mkdir", "path": "made"}]},
    ],
)
def test_nothing_is_built(tmp_path, monkeypatch, told):
    monkeypatch.chdir(tmp_path)
    weights = beside(tmp_path, {"dataset": {"num_classes": 2, **told}})
    with pytest.raises(ConfigError, match=r"config.yaml: dataset\."):
        find_config(CONFIG, weights)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "text",
    ["_BASE_: other.yaml", "[1, 2]", "", "dataset: 5", "dataset: {train: x}", "MODEL: {WEIGHTS: a}"],
)
def test_a_file_that_tells_nothing(tmp_path, text):
    (tmp_path / "other.yaml").write_text("dataset: !!python/object/apply:os.mkdir [made]")
    assert classes_of_run(Path(beside(tmp_path, text)).with_name("config.yaml")) == {}


@pytest.mark.parametrize("text", ["dataset: !!python/object/apply:os.mkdir [made]", "a: [1", "a: &a [*a]"])
def test_a_broken_file_is_named(tmp_path, text):
    with pytest.raises(ConfigError, match="config.yaml"):
        find_config(CONFIG, beside(tmp_path, text))
