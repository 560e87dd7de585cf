"""Runs that save in shards go on, in as many processes as there are, where they were."""

import os
import shutil
import signal

import pytest
from detectron2.engine import HookBase
from detectron2.utils import comm

from itpn_d2.checkpoint import last_checkpoint
from tests.engine.forked import forked
from tests.engine.test_parallel import train


class Killed(HookBase):
    """The process that names finished checkpoints dies when it has begun a later one."""

    def after_step(self):
        if self.trainer.iter == 3 and comm.is_main_process():
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    weights, average, *_ = train("mfm", tmp_path_factory.mktemp("alone"))
    return weights, average


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of a run in two shards that was killed while it wrote its second checkpoint."""
    folder = tmp_path_factory.mktemp("killed")
    with pytest.raises(RuntimeError):
        forked(2, lambda: train("mfm", folder, sharded=True, more=[Killed()]), folder)
    return folder


def equal(found, undisturbed):
    for own, averaged, *_ in found:
        for value, expected in zip((own, averaged), undisturbed, strict=True):
            assert (value - expected).abs().max() < 1e-5


def test_killed_while_writing(killed, undisturbed, tmp_path):
    assert last_checkpoint(killed).name == "model_0000001.dcp"
    assert not (killed / "model_0000003.dcp").exists()
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    equal([train("mfm", tmp_path, 2)], undisturbed)
    assert last_checkpoint(tmp_path).name == "model_final.pth"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "parallel", "sharded", "options"),
    [(2, "fsdp", True, {}), (4, "hsdp", True, {"shards": 2}), (2, "ddp", False, {})],
)
def test_other_processes(killed, undisturbed, tmp_path, processes, parallel, sharded, options):
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    go_on = dict(start=2, parallel=parallel, sharded=sharded, **options)
    equal(forked(processes, lambda: train("mfm", tmp_path, **go_on), tmp_path), undisturbed)
    assert (tmp_path / "model_0000003.dcp").is_dir() == sharded
    assert not sharded or not [*tmp_path.glob(".model*partial*")]  # others leave it to the start of a run
