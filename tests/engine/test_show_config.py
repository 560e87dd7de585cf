"""``--show-config``: the whole config, with where each value comes from."""

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from itpn_d2.engine import base_parser, load_config, run_command
from itpn_d2.engine.origins import shown

ROOT = Path(__file__).resolve().parents[2] / "configs"
QUICKSTART = ROOT / "Quickstart" / "mask_rcnn_fast_itpn_nano.py"


@pytest.fixture(scope="module")
def text():
    overrides = ["train.max_iter=7", "train.init_checkpoint=https://me:secret@host/x.pth?token=abc&size=3"]
    return shown(str(QUICKSTART), overrides)


def origin(text, line):
    found = [x for x in text.splitlines() if x.strip().startswith(line)]
    assert found, line
    return found[0].partition("  # ")[2]


def test_where_values_come_from(text):
    assert origin(text, "max_iter: 7") == "override"
    assert origin(text, "output_dir: output/").endswith("Quickstart/mask_rcnn_fast_itpn_nano.py")
    assert origin(text, "betas:").endswith("common/optim.py")
    assert origin(text, "accumulate:").endswith("common/train.py")
    assert origin(text, "mask_padding:") == "default of create_model"
    assert origin(text, "seed: 42").endswith("common/train.py = ${train.seed}")


def test_secrets_are_hidden(text):
    assert "secret" not in text and "abc" not in text and "https://***@host/x.pth?token=***&size=3" in text


def test_it_is_the_config(text, tmp_path):
    (tmp_path / "shown.yaml").write_text(text)
    content = yaml.safe_load(text)
    config = load_config(str(QUICKSTART), ["train.max_iter=7"])
    told = load_config(str(tmp_path / "shown.yaml"))
    for section in ("train", "optimizer", "dataset"):
        ours = OmegaConf.to_container(config[section], resolve=True)
        assert {k: v for k, v in content[section].items() if k in ours}.keys() == ours.keys()
    assert told.model.backbone.name == config.model.backbone.name
    assert told.train.max_iter == 7 and told.train.seed == 42


def test_the_command_builds_nothing(monkeypatch, capsys):
    arguments = base_parser("").parse_args(
        ["--config-file", str(QUICKSTART), "--show-config", "train.max_iter=9"]
    )

    def main(_):
        raise AssertionError("nothing is to be built")

    run_command(main, arguments)
    assert "max_iter: 9  # override" in capsys.readouterr().out


@pytest.mark.parametrize("override", ["train.max_itr=5", "train.max_iter=-1"])
def test_a_wrong_config_is_refused(refused, override):
    arguments = base_parser("").parse_args(["--config-file", str(QUICKSTART), "--show-config", override])
    with refused("max_iter"):
        run_command(lambda _: None, arguments)
