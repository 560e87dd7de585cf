"""Accuracy and latency of a trained model, dense and accelerated."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import instantiate
from torch import Tensor, nn

from benchmarks.clock import compare
from calibration.grid import Acceleration
from itpn_d2.backbone import Trunk
from itpn_d2.backbone.backbone import ITPNBackbone
from itpn_d2.checkpoint import load_state_file, local_path, to_native, unwrap
from itpn_d2.engine import Run
from itpn_d2.engine.evaluate import evaluate_once
from itpn_d2.engine.parts import Call, calls_of, find_part
from itpn_d2.engine.precision import autocast
from itpn_d2.engine.timing import Step, interleave
from itpn_d2.errors import ConfigError
from itpn_d2.evaluation import flatten, spread

Learned = dict[str, Tensor]
_PARTS = ("migration", "gathering")


def learned_parameters(checkpoint: str) -> Learned:
    """What a checkpoint has learned of migration and gathering, by name within the trunk."""
    state = to_native(unwrap(load_state_file(local_path(checkpoint)))).state
    own = {name.removeprefix("trunk."): value for name, value in state.items() if name.startswith("trunk.")}
    return {name: value for name, value in own.items() if name.startswith(_PARTS)}


def twin_of(model: nn.Module) -> nn.Module:
    """A copy with modules of its own and the same weights, so that one can be accelerated and the other not
    without a copy in memory."""
    shared: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared)


@dataclass
class Options:
    """What a part of the trunk has beyond what a calibration tries, as the config has it."""

    migration: dict[str, Any]
    gathering: dict[str, Any]

    @staticmethod
    def of(trunk: Trunk) -> "Options":
        migration, gathering = trunk.migration, trunk.gathering
        return Options(
            {"metric": migration.metric, "affine": migration.scale is not None} if migration else {},
            {"global_blocks": sorted(gathering.global_blocks)} if gathering else {},
        )

    def complete(self, setting: Acceleration, learned: Learned) -> dict[str, dict[str, Any] | None]:
        """Arguments of :meth:`Trunk.accelerate`. A learned scale is used where there are as many drops."""
        migration, gathering = setting.migration(), setting.gathering()
        if migration is not None:
            scale = learned.get("migration.scale")
            affine = {"affine": True} if scale is not None and len(scale) == len(setting.at) else {}
            migration = {**self.migration, **migration, **affine}
        if gathering is not None:
            gathering = {**self.gathering, **gathering}
        return {"migration": migration, "gathering": gathering}


def accelerate(trunk: Trunk, options: dict[str, Any], learned: Learned) -> list[str]:
    """Turn a setting on, with what the checkpoint has learned where its shape fits.

    Returns:
        The names of parameters that keep their start although the checkpoint has some of that name.
    """
    trunk.accelerate(**options)
    parameters = {n: p for n, p in trunk.named_parameters() if n.startswith(_PARTS)}
    unfit = []
    for name, parameter in parameters.items():
        value = learned.get(name)
        if value is not None and value.shape == parameter.shape:
            parameter.data.copy_(value)
        elif value is not None:
            unfit.append(name)
    return unfit


class Bench:
    """A model and its twin, side by side.

    Args:
        run: with its weights loaded.
        images: of the evaluation, spread over the dataset; None for all.
        samples: images that latencies are taken on, spread over the dataset.
        rounds: times that both are timed.

    Raises:
        ConfigError: the model has no backbone of this project, or one that can't be accelerated.
    """

    def __init__(self, run: Run, learned: Learned, images: int | None, samples: int, rounds: int):
        backbone = find_part(run.model, ITPNBackbone)
        if backbone is None:
            raise ConfigError("the model has no ITPNBackbone: there is nothing to accelerate")
        if backbone.trunk.has_relative_positions:
            raise ConfigError(
                "the trunk has relative positions, which exclude token migration and gathering: train it "
                "with rel_pos='none'"
            )
        self.run, self.learned, self.images, self.rounds = run, learned, images, rounds
        self.options = Options.of(backbone.trunk)
        backbone.trunk.accelerate()
        self.dense, self.fast = run.model, twin_of(run.model)
        self.backbones = backbone, find_part(self.fast, ITPNBackbone)
        self.batches = list(spread(instantiate(run.cfg.dataloader.test), samples))
        # the first calls, which cost more than others, and what the backbone gets
        with calls_of(backbone) as self.calls:
            for number in range(len(self.batches)):
                self._step(self.dense)(number)

    @property
    def depth(self) -> int:
        return self.backbones[0].trunk.depths[2]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens that hold every sampled image."""
        shapes = [args[0].shape[-2:] for args, _ in self.calls]
        rows, columns = (max(-(-shape[i] // 16) for shape in shapes) for i in (0, 1))
        return rows, columns

    def _step(self, model: nn.Module) -> Step:
        return self._timed(lambda number: model(self.batches[number % len(self.batches)]))

    def _backbone_step(self, backbone: nn.Module) -> Step:
        def forward(number: int) -> None:
            args, kwargs = self._call(number)
            backbone(*args, **kwargs)

        return self._timed(forward)

    def _call(self, number: int) -> Call:
        return self.calls[number % len(self.calls)]

    def _timed(self, forward: Callable[[int], object]) -> Step:
        def step(number: int) -> None:
            with torch.no_grad(), autocast(self.run.device, self.run.dtype):
                forward(number)

        return step

    def measure(self, setting: Acceleration) -> dict[str, Any]:
        """Metrics, and seconds of backbone and model beside those of the dense ones."""
        fast = self.backbones[1]
        assert fast is not None
        options = self.options.complete(setting, self.learned)
        unfit = accelerate(fast.trunk, options, self.learned)
        found = evaluate_once(self.run.cfg, self.fast, self.run.dtype, "calibration", self.images)
        metrics = {k: v if math.isfinite(v) else None for k, v in flatten(found).items()}
        latency = {
            "backbone": self._latency(*(self._backbone_step(b) for b in (self.backbones[0], fast))),
            "model": self._latency(self._step(self.dense), self._step(self.fast)),
        }
        return {"metrics": metrics, "latency": latency, "options": options, "untrained": unfit}

    def _latency(self, dense: Step, fast: Step) -> dict[str, Any]:
        for number in range(len(self.batches)):
            fast(number)
        seconds = interleave(dense, fast, self.rounds, self.run.device)
        return {**compare(*seconds), "seconds": seconds}
