"""What ``--resume`` takes from the checkpoint (weights, moments), and what from the config (settings)."""

import pytest
import torch
from detectron2.config import instantiate
from detectron2.engine import HookBase

from itpn_d2.checkpoint import atomic_save, load_state_file
from itpn_d2.engine import Run
from itpn_d2.errors import ConfigError
from tests.engine.test_nothing_is_lost import small

FOUR = ["train.max_iter=4", "train.checkpointer.period=2"]


class Stop(HookBase):
    def after_step(self):
        self.trainer.stop_requested = self.trainer.iter == 1


class Watch(HookBase):
    """Notes the optimizer's groups and the average before the first step."""

    def before_step(self):
        if not hasattr(self, "groups"):
            self.groups = [
                {k: v for k, v in g.items() if k != "params"} for g in self.trainer.optimizer.param_groups
            ]
            average = self.trainer.average
            self.average = {k: v.clone() for k, v in average.state_dict().items()} if average else None
            self.moments = sum(s["exp_avg"].abs().sum() for s in self.trainer.optimizer.state.values())


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ITPN_D2_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def stopped(tmp_path):
    Run(small(tmp_path, *FOUR)).train(more_hooks=[Stop()])
    assert (tmp_path / "model_0000001.pth").is_file()
    return tmp_path


def test_rates_decay_and_schedule_are_the_configs(stopped):
    changed = ["optimizer.lr=0.004", "optimizer.params.weight_decay=0.3", "optimizer.betas=[0.7,0.8]"]
    run, watch = Run(small(stopped, *FOUR, *changed)), Watch()
    run.train(resume=True, more_hooks=[watch])
    expected = 0.004 * instantiate(run.cfg.lr_multiplier)(2 / 4)
    assert max(g["lr"] for g in watch.groups) == pytest.approx(expected, rel=1e-9)
    assert {g["weight_decay"] for g in watch.groups} == {0.0, 0.3}
    assert all(tuple(g["betas"]) == (0.7, 0.8) for g in watch.groups)
    assert watch.moments > 0


def test_an_average_turned_on_later_starts_from_the_resumed_weights(stopped):
    watch = Watch()
    Run(small(stopped, *FOUR, "train.ema.enabled=True")).train(resume=True, more_hooks=[watch])
    weights = load_state_file(stopped / "model_0000001.pth")["model"]
    assert watch.average is not None
    assert all(torch.equal(watch.average[name], value) for name, value in weights.items())


def test_moments_of_other_parameters_are_refused(stopped):
    path = stopped / "model_0000001.pth"
    content = load_state_file(path)
    moments = content["trainer"]["optimizer"]["state"]
    first = next(iter(moments))
    moments[first]["exp_avg"] = torch.zeros(3, 5, 7)
    atomic_save(content, path)
    with pytest.raises(ConfigError, match=r"exp_avg of the optimizer has the shape \(3, 5, 7\)"):
        Run(small(stopped, *FOUR)).train(resume=True)


def test_moments_that_are_not_finite_are_refused(stopped):
    path = stopped / "model_0000001.pth"
    content = load_state_file(path)
    next(iter(content["trainer"]["optimizer"]["state"].values()))["exp_avg_sq"].fill_(float("nan"))
    atomic_save(content, path)
    with pytest.raises(
        ConfigError, match="exp_avg_sq of the optimizer, of a parameter of shape .* not finite"
    ):
        Run(small(stopped, *FOUR)).train(resume=True)


def test_the_place_in_the_schedule_is_the_iteration(stopped):
    path = stopped / "model_0000001.pth"
    content = load_state_file(path)
    content["trainer"].pop("hooks")  # of a tool that keeps weights and moments only
    atomic_save(content, path)
    run, watch = Run(small(stopped, *FOUR)), Watch()
    run.train(resume=True, more_hooks=[watch])
    expected = run.cfg.optimizer.lr * instantiate(run.cfg.lr_multiplier)(2 / 4)
    assert max(g["lr"] for g in watch.groups) == pytest.approx(expected, rel=1e-9)


def test_other_groups_of_parameters_are_refused(stopped):
    run = Run(small(stopped, *FOUR, "optimizer.params.layer_decay=0.5"))
    with pytest.raises(ConfigError, match="parameter groups differ.*layer_decay.*init_checkpoint"):
        run.train(resume=True)
