"""Deformable attention at the size of DINO's encoder, forward and backward; memory of a DINO training step.

On the CPU the form of ``itpn_d2.layers``, which adds up level by level, against the usual one, which
stacks the samples of all levels; on CUDA its Triton form against its PyTorch form. The two sides of a ratio
of times run in turns in one process, those of a ratio of memory have a process each. Memory is what steps
add on the CPU, and all that tensors take on CUDA.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import Boxes, Instances
from torch import Tensor

from benchmarks.clock import compare, own_process, peak_mib
from benchmarks.table import HEADER, Measure, Results, single
from benchmarks.training import synthetic_batch
from itpn_d2.engine.precision import autocast, resolve_device, resolve_dtype
from itpn_d2.engine.timing import Step, interleave, machine
from itpn_d2.layers import sample_points
from itpn_d2.layers.deformable import Shapes, deformable_samples, sample_levels
from itpn_d2.seed import seed_step

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "COCO-Detection" / "dino_fast_itpn_tiny_1x.py"
HEADS, DIM, POINTS = 8, 32, 4
SIDES = {"cpu": ("stacked", "levels"), "cuda": ("torch", "triton")}
Operator = Callable[[Tensor, Shapes, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Setting:
    """What is measured: an image of so many pixels, and how often."""

    height: int = 800
    width: int = 1333
    batch: int = 1
    rounds: int = 3
    device: str = "auto"
    dtype: str = "fp32"

    def place(self) -> tuple[torch.device, torch.dtype]:
        device = resolve_device(self.device)
        return device, resolve_dtype(self.dtype, device)


def stacked(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """As public PyTorch forms do it: all samples side by side, then one weighted sum."""
    b, _, heads, dim = value.shape
    queries = locations.shape[1]
    samples, start = [], 0
    for level, (h, w) in enumerate(shapes):
        part = value[:, start : start + h * w].flatten(2).transpose(1, 2).reshape(b * heads, dim, h, w)
        samples.append(sample_points(part, locations[:, :, :, level].transpose(1, 2).flatten(0, 1)))
        start += h * w
    share = weights.transpose(1, 2).reshape(b * heads, 1, queries, -1)
    total = (torch.stack(samples, -2).flatten(-2) * share).sum(-1)
    return total.view(b, heads * dim, queries).transpose(1, 2)


OPERATORS: dict[str, Operator] = {
    "stacked": stacked,
    "levels": sample_levels,
    "torch": partial(deformable_samples, form="torch"),
    "triton": partial(deformable_samples, form="triton"),
}


def level_shapes(height: int, width: int, levels: int) -> list[tuple[int, int]]:
    """Of our pyramid, from stride 4 (five levels) or 8 (four) to 64: padded to 32 pixels, pooled down."""
    rows, columns = -(-height // 32) * 32, -(-width // 32) * 32
    return [(rows // s, columns // s) for s in (4, 8, 16, 32, 64)[5 - levels :]]


def operator_step(name: str, levels: int, setting: Setting) -> Step:
    """Forward and backward of one operator: every cell looks around itself, as in the encoder."""
    device, dtype = setting.place()
    shapes = level_shapes(setting.height, setting.width, levels)
    generator = torch.Generator().manual_seed(0)
    cells = sum(h * w for h, w in shapes)
    value = torch.randn(setting.batch, cells, HEADS, DIM, generator=generator)
    centres = torch.cat(
        [torch.cartesian_prod((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w) for h, w in shapes]
    ).flip(1)
    size = torch.tensor([(w, h) for h, w in shapes])
    shift = torch.randn(setting.batch, cells, HEADS, levels, POINTS, 2, generator=generator) * 2
    locations = centres[:, None, None, None] + shift / size[:, None]
    weights = torch.rand(setting.batch, cells, HEADS, levels, POINTS, generator=generator)
    leaves = [x.to(device).requires_grad_() for x in (value.to(dtype), locations, weights.to(dtype))]

    def step(number: int) -> None:
        for leaf in leaves:
            leaf.grad = None
        OPERATORS[name](leaves[0], shapes, *leaves[1:]).sum().backward()

    return step


def operator_peak(name: str, levels: int, setting: Setting) -> float:
    """MiB of two steps, of which the second finds what the first has left."""
    return peak_mib(operator_step(name, levels, setting), 2, setting.place()[0])


def operator_speed(levels: int, setting: Setting) -> Results:
    """Seconds of the slower side over those of the faster."""
    device = setting.place()[0]
    slow, fast = (operator_step(name, levels, setting) for name in SIDES[device.type])
    seconds = interleave(slow, fast, setting.rounds, device)
    return {f"speed/{levels}": {**compare(*seconds), "seconds": seconds}}


def measure_operator(levels: int, setting: Setting) -> Results:
    slow, fast = SIDES[setting.place()[0].type]
    peaks = {name: own_process(operator_peak, name, levels, setting) for name in (slow, fast)}
    memory = {**single(peaks[fast] / peaks[slow]), "mib": peaks}
    return {**own_process(operator_speed, levels, setting), f"memory/{levels}": memory}


def dino_peak(checkpointing: bool, setting: Setting) -> float:
    """MiB of two training steps of DINO over Fast-iTPN-T, with the optimizer's."""
    device, dtype = setting.place()
    cfg = LazyConfig.load(str(CONFIG))
    cfg.dataset.num_classes = 80
    if checkpointing:
        cfg.model.update(checkpointing=("encoder", "decoder"))
        cfg.model.backbone.checkpointing = ("stage1", "stage2", "stage3", "pyramid")
    seed_step(0)
    model = instantiate(cfg.model).to(device).train()
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    batch = [record(setting, seed) for seed in range(setting.batch)]

    def step(number: int) -> None:
        with autocast(device, dtype):
            losses = model(batch)
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return peak_mib(step, 2, device)


def record(setting: Setting, seed: int) -> dict[str, Any]:
    """Random pixels with rectangles."""
    height, width = setting.height, setting.width
    [square] = synthetic_batch(1, max(height, width), seed)
    instances = Instances((height, width), gt_classes=square["instances"].gt_classes)
    instances.gt_boxes = Boxes(square["instances"].gt_boxes.tensor)
    instances.gt_boxes.clip((height, width))
    return {
        "image": square["image"][:, :height, :width],
        "instances": instances[instances.gt_boxes.nonempty()],
    }


def measure_dino(setting: Setting) -> Results:
    """In GiB, without checkpointing and with it."""
    kinds = {"plain": False, "checkpointed": True}
    return {
        f"dino/{kind}": single(own_process(dino_peak, recompute, setting) / 1024)
        for kind, recompute in kinds.items()
    }


def measures(device: str) -> dict[str, Measure]:
    """Lines of the table, with the targets of the CPU or the GPU."""
    slow, fast = SIDES[device]
    words = {
        "stacked": "all levels stacked",
        "levels": "level by level",
        "torch": "PyTorch",
        "triton": "Triton",
    }
    cuda, lines = device == "cuda", {}
    for levels in (4, 5):
        lines[f"speed/{levels}"] = Measure(
            f"{levels} levels: seconds, {words[slow]} / {words[fast]}", ">=", 4.0 if cuda else 1.5
        )
        lines[f"memory/{levels}"] = Measure(
            f"{levels} levels: peak memory, {words[fast]} / {words[slow]}", *(("<=", 0.4) if cuda else ())
        )
    lines["dino/plain"] = Measure("training step of DINO, Fast-iTPN-T: peak memory, GiB")
    lines["dino/checkpointed"] = Measure("the same, all blocks recomputed: peak memory, GiB", "<", 10.0)
    return lines


CASES: dict[str, Callable[[Setting], Results]] = {
    "4": partial(measure_operator, 4),
    "5": partial(measure_operator, 5),
    "dino": measure_dino,
}


def markdown(results: Results, setting: Setting) -> str:
    """The table, with milliseconds and MiB of both sides below."""
    device, dtype = setting.place()
    lines = [
        f"Deformable attention, {setting.height}x{setting.width} pixels, batch {setting.batch}, "
        f"{str(dtype).removeprefix('torch.')}, rounds {setting.rounds}, on {machine(device)}, "
        f"torch {torch.__version__}.",
        "",
        *HEADER,
    ]
    kinds = measures(device.type)
    lines += [measure.row(results[name]) for name, measure in kinds.items() if name in results]
    return "\n".join(lines) + "\n"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--height", type=int, default=Setting.height)
    parser.add_argument("--width", type=int, default=Setting.width)
    parser.add_argument("--batch", type=int, default=Setting.batch)
    parser.add_argument("--rounds", type=int, default=Setting.rounds)
    parser.add_argument("--dtype", default=Setting.dtype, help="type of the values: auto, bf16, fp16 or fp32")
    parser.add_argument(
        "--cases",
        nargs="+",
        choices=list(CASES),
        default=list(CASES),
        help="number of levels, or dino for a training step",
    )


def run(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The table, and all that was measured."""
    setting = Setting(args.height, args.width, args.batch, args.rounds, args.device, args.dtype)
    results: Results = {}
    for name in args.cases:
        print(f"{name} ...", flush=True)
        results.update(CASES[name](setting))
    where = machine(setting.place()[0])
    found = {"machine": where, "torch": torch.__version__, "setting": asdict(setting), "results": results}
    return markdown(results, setting), found
