"""A run from a config in shards: evaluated, stopped, resumed, read by one process."""

import signal

import pytest
from detectron2.engine import HookBase

from itpn_d2.checkpoint import last_checkpoint, load_state_file
from itpn_d2.engine import Run
from tests.engine.forked import forked
from tests.engine.test_run import cache, small, weights  # noqa: F401

RUN = [
    "train.max_iter=4",
    "train.eval_period=2",
    "train.checkpointer.period=2",
    "train.ema.enabled=True",
    "train.validation_loss=False",
    "train.best_metric=''",
    "optimizer.eps=1e-3",  # Adam makes whole steps of rounding
    "model.backbone.drop_path=0.2",
]
SHARDS = ["train.parallel=fsdp", "train.checkpointer.sharded=True"]


class Stop(HookBase):
    """The job is told to stop in its second iteration."""

    def before_step(self):
        if self.trainer.iter == 1:
            signal.raise_signal(signal.SIGTERM)


def run(folder, *more, resume=False, hooks=()):
    """Results of a training, in the main process."""
    return Run(small(folder, *RUN, *more)).train(resume, hooks)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder)


def differences(folder, other):
    own, theirs = weights(folder), weights(other)
    assert own.keys() == theirs.keys()
    return max((value - theirs[key]).abs().max().item() for key, value in own.items())


def test_train_stop_resume_evaluate(tmp_path, whole):
    def stopped():
        assert run(tmp_path, *SHARDS, hooks=[Stop()]) == {}

    forked(2, stopped, tmp_path)
    assert last_checkpoint(tmp_path).name == "model_0000001.dcp"
    assert not (tmp_path / "model_final.pth").exists()
    results, others = forked(2, lambda: run(tmp_path, *SHARDS, resume=True), tmp_path)
    assert (tmp_path / "model_0000003.dcp").is_dir() and not others
    assert differences(tmp_path, whole[0]) < 1e-4

    final = [f"train.init_checkpoint={tmp_path / 'model_final.pth'}", "train.visualize.images=0"]
    alone = Run(small(tmp_path / "alone", *RUN, *final), evaluate_only=True).evaluate()
    assert alone and all(
        results[kind][name] == pytest.approx(value, abs=1e-6, nan_ok=True)
        for kind, values in alone.items()
        for name, value in values.items()
    )
    assert results.keys() == whole[1].keys()


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["fsdp", "hsdp"])
def test_shards_of_given_weights(tmp_path, whole, parallel):
    """What a file gives is what is trained and written, in shards as well."""
    given = f"train.init_checkpoint={whole[0] / 'model_final.pth'}"
    more = [
        given,
        "train.max_iter=1",
        "train.eval_period=0",
        "optimizer.lr=1e-9",
        f"train.parallel={parallel}",
    ]
    assert forked(2, lambda: run(tmp_path / "given", *more) or True, tmp_path) == [True, True]
    own, theirs = (load_state_file(f / "model_final.pth")["model"] for f in (tmp_path / "given", whole[0]))
    assert own.keys() == theirs.keys()
    assert all((value - theirs[key]).abs().max() < 1e-6 for key, value in own.items())
