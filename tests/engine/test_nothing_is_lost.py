"""Signals, failures and restarts cost no finished work."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from itpn_d2.checkpoint import load_state_file
from itpn_d2.engine import Run, load_config, saving
from itpn_d2.engine.fingerprint import Fingerprint
from itpn_d2.engine.lock import FolderLock
from itpn_d2.errors import ConfigError, OutputError

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs" / "Quickstart" / "faster_rcnn_fast_itpn_nano.py")
SMALL = [
    "dataset.train.num_images=4",
    "dataset.val.num_images=2",
    "dataset.train.size=64",
    "dataset.val.size=64",
    "dataloader.image.test_short_side=64",
    "dataloader.image.short_sides=[64]",
    "dataloader.train.total_batch_size=2",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
    "model.backbone.channels=[16,32,64]",
    "model.backbone.depths=[1,1,1]",
    "model.backbone.num_heads=2",
    "train.validation_loss=False",
    "train.visualize.period=0",
    "train.ema.enabled=False",
    "train.best_metric=",
    "train.eval_period=0",
    "train.amp.dtype=fp32",
    "train.device=cpu",
]


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ITPN_D2_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def small(folder, *more):
    return load_config(CONFIG, [*SMALL, f"train.output_dir={folder}", *more])


@pytest.fixture
def processes():
    """What is started; killed in the end, whatever came of it."""
    found = []
    yield found
    for process in found:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def started(processes, folder, flags, *more):
    """A long training in a process group of its own, once it has done some iterations."""
    command = [sys.executable, str(ROOT / "train_net.py"), "--config-file", CONFIG, *flags, *SMALL]
    options = [f"train.output_dir={folder}", "train.max_iter=100000", "train.log_period=1", *more]
    process = subprocess.Popen(
        [*command, *options],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    processes.append(process)
    deadline = time.monotonic() + 300
    while not (folder / "metrics.json").is_file() or (folder / "metrics.json").stat().st_size < 1:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return process


@pytest.mark.parametrize(
    ("number", "flags", "more"),
    [
        pytest.param(signal.SIGTERM, [], ["dataloader.train.num_workers=2"], id="SIGTERM-workers"),
        pytest.param(signal.SIGINT, ["--num-processes", "2"], [], id="SIGINT-processes"),
        pytest.param(
            signal.SIGINT,
            [],
            ["dataloader.train.num_workers=2"],
            id="SIGINT-workers",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            signal.SIGTERM, ["--num-processes", "2"], [], id="SIGTERM-processes", marks=pytest.mark.slow
        ),
    ],
)
def test_a_signal_to_the_whole_group_saves(tmp_path, processes, number, flags, more):
    process = started(processes, tmp_path, flags, *more)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    name = (tmp_path / "last_checkpoint").read_text()
    assert load_state_file(tmp_path / name)["iteration"] >= 0
    assert not [p for p in tmp_path.iterdir() if "partial" in p.name]


@pytest.mark.parametrize("own", [True, False])
def test_the_same_request_may_come_after_the_end(monkeypatch, own):
    """From the group and from the process that started this one; another process may have told of it."""
    monkeypatch.setattr(saving, "_ONE_REQUEST", 1.0)
    hook, before = saving.SaveOnSignal(None), signal.getsignal(signal.SIGINT)
    hook.before_train()
    if own:
        os.kill(os.getpid(), signal.SIGINT)
    else:
        hook._received = time.monotonic()
    late = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    late.start()
    hook.after_train()
    late.join()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_to_the_first_process_alone_saves(tmp_path, processes):
    process = started(processes, tmp_path, ["--num-processes", "2"])
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and (tmp_path / "last_checkpoint").is_file(), errors


def test_a_failing_evaluation_costs_no_training(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("an evaluator's fault")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="an evaluator's fault"):
        patch.setattr("itpn_d2.engine.training.evaluate", fail)
        Run(small(tmp_path, "train.max_iter=3", "train.eval_period=2")).train()
    assert load_state_file(tmp_path / (tmp_path / "last_checkpoint").read_text())["iteration"] == 1
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="an evaluator's fault"):
        patch.setattr("itpn_d2.engine.training.evaluate", fail)
        Run(small(tmp_path, "train.max_iter=3", "train.eval_period=2")).train(resume=True)
    assert load_state_file(tmp_path / "model_final.pth")["iteration"] == 2


@pytest.mark.parametrize("name", ["log.txt", "metrics.json", "config.yaml"])
def test_a_folder_in_the_place_of_a_file(tmp_path, name):
    (tmp_path / name / "x").mkdir(parents=True)
    with pytest.raises(OutputError, match=f"{name}: can't be written"):
        Run(small(tmp_path, "train.max_iter=1")).train()


def test_checkpoints_to_keep_are_counted_over_restarts(tmp_path):
    every = ["train.checkpointer.period=1", "train.checkpointer.max_to_keep=2"]
    for end in (2, 4, 5):
        Run(small(tmp_path, *every, f"train.max_iter={end}")).train(resume=True)
    numbered = sorted(p.name for p in tmp_path.glob("model_0*.pth"))
    assert numbered == ["model_0000003.pth", "model_0000004.pth"]


def test_a_finished_run_without_its_final_file_gets_it(tmp_path):
    Run(small(tmp_path, "train.max_iter=2", "train.checkpointer.period=1")).train()
    final = load_state_file(tmp_path / "model_final.pth")
    (tmp_path / "model_final.pth").unlink()
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")  # killed before the last file was written
    Run(small(tmp_path, "train.max_iter=2", "train.checkpointer.period=1")).train(resume=True)
    again = load_state_file(tmp_path / "model_final.pth")
    assert again["iteration"] == 1 and (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    assert all(torch.equal(v, again["model"][k]) for k, v in final["model"].items())
    assert again["trainer"]["hooks"] == final["trainer"]["hooks"]


def test_two_runs_do_not_share_a_folder(tmp_path):
    holder = (
        "import sys, pathlib\n"
        "from itpn_d2.engine.lock import FolderLock\n"
        "with FolderLock(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match=f"another run is writing there .process {process.pid} on"):
        Run(small(tmp_path, "train.max_iter=1"))
    assert not (tmp_path / "config.yaml").exists()
    process.kill()
    process.wait()
    with FolderLock(tmp_path), FolderLock(tmp_path):  # the dead hold nothing, and one process may claim twice
        pass


def test_resuming_into_something_else(tmp_path, caplog):
    cfg = OmegaConf.create(
        {
            "dataset": {
                "train": {"_target_": "itpn_d2.data.image_sources.coco_images", "json": "a.json"},
                "class_names": ["cat", "dog"],
            },
            "optimizer": {"lr": 0.1, "betas": [0.9, 0.99]},
            "train": {"seed": 1, "amp": {"dtype": "fp32"}},
        }
    )
    before = Fingerprint(cfg, images=8).state_dict()
    same = Fingerprint(cfg, images=8)
    same.load_state_dict(before)
    same.load_state_dict(
        before | {"dataset.train._target_": "itpn_d2.data.paths.coco_images"}
    )  # its old name
    assert not caplog.records
    cfg.optimizer.lr, cfg.train.seed = 0.2, 2
    Fingerprint(cfg, images=7).load_state_dict(before)
    for words in ("optimizer.lr was 0.1 and is now 0.2", "train.seed was 1", "images was 8 and is now 7"):
        assert words in caplog.text
    cfg.dataset.class_names = ["dog", "cat"]
    with pytest.raises(ConfigError, match="another train.output_dir"):
        Fingerprint(cfg, images=8).load_state_dict(before)


def test_a_fingerprint_is_that_of_any_process(tmp_path):
    settings = Fingerprint(small(tmp_path)).state_dict()
    assert settings["dataset.train._target_"] == "itpn_d2.data.scene_sets.register_scenes"
    assert not [key for key, value in settings.items() if " at 0x" in str(value)]


def test_an_image_that_vanishes_is_replaced_and_listed(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    run = Run(small(tmp_path / "out", "train.max_iter=4", f"dataset.train.root={tmp_path / 'data'}"))
    images = sorted((tmp_path / "data").rglob("images/*"))
    images[0].unlink()
    images[1].write_bytes(images[1].read_bytes()[:60])
    run.train()
    lines = (tmp_path / "out" / "broken_images.txt").read_text().splitlines()
    assert [Path(line.split("\t")[0]) for line in lines] == images[:2]
    assert "2 images could not be read" in caplog.text
    assert (tmp_path / "out" / "model_final.pth").is_file()


def test_own_checkpoints_hold_plain_containers_only(tmp_path):
    Run(small(tmp_path, "train.max_iter=1", "optimizer.betas=[0.8,0.9]")).train()
    content = torch.load(tmp_path / "model_final.pth", weights_only=True)
    betas = content["trainer"]["optimizer"]["param_groups"][0]["betas"]
    assert type(betas) in (list, tuple) and list(betas) == [0.8, 0.9]


def test_checkpoints_with_config_nodes_are_read(tmp_path):
    node = OmegaConf.create({"betas": [0.9, 0.95], "deep": {"n": 3, "t": "x", "none": None}})
    torch.save(
        {"model": {"w": torch.ones(2)}, "trainer": [{"betas": node.betas}], "node": node}, tmp_path / "a"
    )
    content = load_state_file(tmp_path / "a")
    assert content["trainer"] == [{"betas": [0.9, 0.95]}]
    assert content["node"] == {"betas": [0.9, 0.95], "deep": {"n": 3, "t": "x", "none": None}}
    assert json.dumps(content["node"])


def test_parts_that_do_not_go_together_are_an_error_of_use(tmp_path):
    """They can be built; the first step fails. Its traceback is kept."""
    cfg = small(
        tmp_path, "train.max_iter=2", "model.roi_heads.box_predictor.box2box_transform.weights.2=[[]]"
    )
    with pytest.raises(ConfigError, match=r"the first iteration failed: \w+Error.*error\.txt"):
        Run(cfg).train()
    assert "Traceback" in (tmp_path / "error.txt").read_text()


def test_a_finished_run_removes_what_a_kill_kept(tmp_path):
    """Killed between writing a checkpoint and removing the oldest one."""
    every = ["train.checkpointer.period=1", "train.checkpointer.max_to_keep=2", "train.max_iter=3"]
    Run(small(tmp_path, *every)).train()
    newest = max(tmp_path.glob("model_0*.pth"))
    (tmp_path / "model_0000000.pth").write_bytes(newest.read_bytes())
    assert len(list(tmp_path.glob("model_0*.pth"))) == 3
    Run(small(tmp_path, *every)).train(resume=True)
    assert len(list(tmp_path.glob("model_0*.pth"))) == 2
