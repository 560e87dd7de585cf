"""Several processes on the CPU, by spawn and by torchrun; the errors of one reach the parent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from itpn_d2.engine import launch as launch_function
from itpn_d2.engine.failures import ChildTraceback, Reporting, first_failure
from itpn_d2.engine.launch import _no_cuda, launch
from itpn_d2.errors import ConfigError

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def workers():
    """launch_workers.py, importable here and, since spawn hands on sys.path, in the processes."""
    sys.path.insert(0, str(HERE))
    try:
        import launch_workers

        yield launch_workers
    finally:
        sys.path.remove(str(HERE))
        sys.modules.pop("launch_workers", None)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("launch")


@pytest.fixture(scope="module")
def alone(workers, root):
    launch(workers.report, args=(str(root), str(root / "alone.json")))
    return json.loads((root / "alone.json").read_text())


@pytest.fixture(scope="module", params=["spawn", pytest.param("torchrun", marks=pytest.mark.slow)])
def two(request, workers, root, alone):
    out = root / f"{request.param}.json"
    if request.param == "spawn":
        launch(workers.report, args=(str(root), str(out)), num_processes=2)
    else:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        command = [*torchrun, str(HERE / "launch_workers.py"), str(root), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
    return {**json.loads(out.read_text()), "how": request.param}


def test_one_process_is_this_one(alone):
    assert alone["ranks"] == [[0, 0, 1, True]]
    assert launch(os.getpid) == os.getpid()


def test_two_processes_evaluate_as_one(alone, two):
    assert set(two["results"]) == {"bbox", "segm"}
    assert 5 < alone["results"]["bbox"]["AP"] < 99 and 1 < alone["results"]["segm"]["AP"] < 99
    # json keeps nan; as text nan equals itself
    assert json.dumps(two["results"]) == json.dumps(alone["results"])


def test_processes_know_each_other(two):
    assert two["ranks"] == [[0, 0, 2, True], [1, 1, 2, False]]  # results in the main process alone
    assert two["gathered"] == [{"rank": 0, "text": "x"}, {"rank": 1, "text": "xx"}]
    assert two["mean"] == {"a": 1.5, "b": 5.0}
    assert two["total"] == 3.0


def test_threads_and_devices(two):
    """Spawned CPU processes share the threads and see no GPU; torchrun decides both itself."""
    threads = {
        "spawn": max(1, torch.get_num_threads() // 2),
        "torchrun": int(os.environ.get("OMP_NUM_THREADS", 1)),
    }
    assert two["threads"] == threads[two["how"]]
    assert two["cuda"] == {"spawn": False, "torchrun": torch.cuda.is_available()}[two["how"]]


def test_an_error_keeps_its_type_and_traceback(workers):
    with pytest.raises(ConfigError, match="rank 1 breaks") as caught:
        launch(workers.break_in_one, args=(1,), num_processes=2)
    assert isinstance(caught.value.__cause__, ChildTraceback)
    assert "break_in_one" in str(caught.value.__cause__)


def test_what_acceleration_adds_takes_part_in_every_step(workers, tmp_path):
    """So that distributed training needs no ``train.ddp.find_unused_parameters``."""
    launch(workers.train_accelerated, args=(str(tmp_path / "out.json"),), num_processes=2)
    found = json.loads((tmp_path / "out.json").read_text())
    assert "find_unused_parameters=True" in found.pop("unused")
    added = {
        "migration": {"trunk.migration.scale", "trunk.migration.shift"},
        "gathering": {"trunk.gathering.offset"},
    }
    added["both"] = added["migration"] | added["gathering"]
    assert found == {
        way: {"equal": True, "moved": dict.fromkeys(names, True)} for way, names in added.items()
    }


class Awkward(Exception):
    """Pickles, but can't be built again."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


def _raise(error):
    raise error


@pytest.mark.parametrize(
    ("first", "expected", "match"),
    [(KeyError("lost"), KeyError, "lost"), (Awkward(1, 2), RuntimeError, "Awkward: 1 and 2")],
)
def test_thefirst_failure_is_raised(first, expected, match):
    with pytest.raises(expected, match=match), first_failure() as reports:
        for error in (first, RuntimeError("Connection closed by peer")):
            with pytest.raises(type(error)):
                Reporting(_raise, reports)(error)
        raise mp.ProcessRaisedException("second", 1, 1)


def test_a_killed_process_is_said():
    with pytest.raises(mp.ProcessExitedException, match="SIGKILL"), first_failure():
        raise mp.ProcessExitedException("signal SIGKILL", 0, 1, -9)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_machines": 2}, "dist-url tcp://"),
        ({"num_machines": 2, "machine_rank": 2, "dist_url": "tcp://a:1"}, "ranks start at 0"),
        ({"num_gpus": 1, "num_processes": 2}, "give only one"),
        ({"num_gpus": 1, "device": "cpu"}, "num_processes instead"),
        ({"num_gpus": 999}, "num_gpus=999, but this machine has"),
        ({"num_processes": 0}, "at least 1 machine and process"),
    ],
)
def test_refuses(options, match):
    with pytest.raises(ConfigError, match=match):
        launch_function(print, **options)


@pytest.mark.parametrize("before", [None, "3"])
def test_cuda_is_hidden_only_meanwhile(monkeypatch, before):
    name = "CUDA_VISIBLE_DEVICES"
    if before is None:
        monkeypatch.delenv(name, raising=False)
    else:
        monkeypatch.setenv(name, before)
    with _no_cuda():
        assert os.environ[name] == ""
    assert os.environ.get(name) == before
