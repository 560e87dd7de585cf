"""Seconds per training step and peak memory of detectors, each in a process of its own, rounds interleaved.

The input is synthetic (random pixels, 16 boxes with masks an image); the model is that of
configs/Custom/mask_rcnn_<variant>.py with one class. Time is the median over rounds of the median step;
memory is the whole process's peak resident set (on CUDA: the peak of allocated device memory).
"""

import argparse
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from benchmarks.clock import own_process, resident_mib
from itpn_d2.engine.precision import autocast, resolve_device, resolve_dtype
from itpn_d2.engine.timing import machine, timed
from itpn_d2.seed import seed_step

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "Custom"


def synthetic_batch(count: int, size: int, seed: int) -> list[dict]:
    """``count`` records of a ``size`` x ``size`` image with 16 rectangles, as a mapper would give them."""
    generator = torch.Generator().manual_seed(seed)
    records = []
    for _ in range(count):
        corner = torch.rand(16, 2, generator=generator) * size * 0.8
        side = torch.rand(16, 2, generator=generator) * size * 0.2 + 8
        boxes = torch.cat((corner, (corner + side).clamp(max=size)), 1)
        masks = torch.zeros(16, size, size, dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.long().tolist(), strict=True):
            mask[y1:y2, x1:x2] = True
        instances = Instances((size, size))
        instances.gt_boxes, instances.gt_masks = Boxes(boxes), BitMasks(masks)
        instances.gt_classes = torch.zeros(16, dtype=torch.long)
        pixels = torch.randint(0, 256, (3, size, size), generator=generator)
        records.append({"image": pixels.float(), "instances": instances, "height": size, "width": size})
    return records


def measure_training(variant: str, size: int, batch: int, dtype: str, steps: int, device_name: str) -> dict:
    """One warm-up and ``steps`` timed optimizer steps in this process."""
    device = resolve_device(device_name)
    precision = resolve_dtype(dtype, device)
    cfg = LazyConfig.load(str(CONFIGS / f"mask_rcnn_{variant}.py"))
    cfg.dataset.num_classes = 1
    cfg.model.backbone.drop_path = 0.0
    seed_step(0)
    model = instantiate(cfg.model).to(device).train()
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)

    def step(records: list[dict]) -> None:
        with autocast(device, precision):
            losses = model(records)
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    with EventStorage(0):
        times = [
            timed(partial(step, synthetic_batch(batch, size, seed)), device) for seed in range(steps + 1)
        ]
    cuda = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else resident_mib("VmHWM")
    return {
        "seconds": statistics.median(times[1:]),
        "peak_mib": peak,
        "dtype": str(precision).removeprefix("torch."),
    }


def run_rounds(args: argparse.Namespace) -> list[dict]:
    """Every (variant, size) once a round, each in a fresh process, so that peak memory is its own."""
    rows: dict[tuple[str, int], list[dict]] = {(v, s): [] for v in args.variants for s in args.sizes}
    for number in range(args.rounds):
        for variant, size in rows:
            last = own_process(
                measure_training, variant, size, args.batch, args.dtype, args.steps, args.device
            )
            rows[variant, size].append(last)
            print(
                f"round {number + 1}/{args.rounds} {variant} {size}: "
                f"{last['seconds']:.3f} s/it, {last['peak_mib']:.0f} MiB",
                flush=True,
            )
    return [
        {
            "variant": variant,
            "size": size,
            "batch": args.batch,
            "dtype": found[0]["dtype"],
            "seconds": statistics.median(r["seconds"] for r in found),
            "peak_mib": statistics.median(r["peak_mib"] for r in found),
            "rounds": found,
        }
        for (variant, size), found in rows.items()
    ]


def markdown(rows: list[dict], where: str) -> str:
    """The table; ``where`` names the machine."""
    lines = [
        f"Training step of Mask R-CNN (configs/Custom), batch {rows[0]['batch']}, "
        f"on {where}, torch {torch.__version__}.",
        "",
        "| variant | image | type | s/iter | peak memory, MiB |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['variant']} | {r['size']} | {r['dtype']} | {r['seconds']:.2f} | {r['peak_mib']:.0f} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--variants", nargs="+", default=["fast_itpn_nano", "fast_itpn_tiny"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[256, 512])
    parser.add_argument("--dtype", default="auto", help="auto, bf16, fp16 or fp32")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)


def run(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The table, and all that was measured."""
    rows = run_rounds(args)
    where = machine(resolve_device(args.device))
    return markdown(rows, where), {"machine": where, "rows": rows}
