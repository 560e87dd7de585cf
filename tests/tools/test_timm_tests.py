"""timm's own tests over our models: which are chosen, and what is said where there are none."""

import os
import subprocess
import sys
from pathlib import Path

import timm_tests
from itpn_d2 import VARIANTS

TOOL = Path(timm_tests.__file__)
TESTS = """
import pytest
import timm

@pytest.mark.parametrize("model_name", timm.list_models("*t*"))
@pytest.mark.parametrize("batch_size", [1])
def test_over_all_models(model_name, batch_size):
    assert timm.is_model(model_name) and model_name != "itpn_nano"

@pytest.mark.parametrize("model_name", timm.list_models(module="vision_transformer"))
def test_model_forward_intermediates(model_name):
    pass

@pytest.mark.parametrize("model_name", timm.list_models("*itpn*"))
def test_model_load_pretrained(model_name):
    raise AssertionError("downloads")

@pytest.mark.parametrize("model_name", ["resnet18"])
@pytest.mark.parametrize("size", [32, 64])
def test_one_model(model_name, size):
    raise AssertionError("not ours")

def test_without_models():
    raise AssertionError("not ours")
"""


def test_tests_over_all_models_are_over_ours(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_models.py").write_text(TESTS)
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\nmarkers = []\n")
    command = [sys.executable, str(TOOL), "--source", str(tmp_path), "-q"]
    paths = os.pathsep.join([str(TOOL.parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}, cwd=tmp_path
    )
    assert done.returncode == 1 and "test_over_all_models[1-itpn_nano]" in done.stdout, done.stderr
    assert f"1 failed, {2 * len(VARIANTS) - 1} passed" in done.stdout


def test_a_folder_without_tests(tmp_path, refused):
    with refused(f"{tmp_path}: no tests/test_models.py in it; name a checkout of timm's repository"):
        timm_tests.main(["--source", str(tmp_path)])


def test_no_sources_to_be_had(monkeypatch, refused):
    def offline(command, **_):
        return subprocess.CompletedProcess(command, 1, stderr="ERROR: No matching distribution found\n")

    monkeypatch.setattr(timm_tests.subprocess, "run", offline)
    with refused(r"timm==.*No matching distribution.*TIMM_SOURCE=FOLDER make test-timm"):
        timm_tests.main([])
