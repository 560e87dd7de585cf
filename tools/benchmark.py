"""Seconds per training step and peak memory of detectors, each in a process of its own, rounds interleaved.

    python tools/benchmark.py train --variants fast_itpn_nano fast_itpn_tiny --sizes 256 512 --json OUT.json
    --markdown OUT.md

The input is synthetic (random pixels, 16 boxes with masks an image); the model is that of
configs/Custom/mask_rcnn_<variant>.py with one class. Time is the median over rounds of the median step;
memory is the whole process's peak resident set (on CUDA: the peak of allocated device memory).
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def synthetic_batch(count: int, size: int, seed: int) -> list[dict]:
    """``count`` records of a ``size`` x ``size`` image with 16 rectangles, as a mapper would give them."""
    import torch
    from detectron2.structures import BitMasks, Boxes, Instances

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
    import torch
    from detectron2.config import LazyConfig, instantiate
    from detectron2.utils.events import EventStorage

    from itpn_d2.engine.precision import autocast, resolve_device, resolve_dtype
    from itpn_d2.engine.seed import seed_step

    device = resolve_device(device_name)
    precision = resolve_dtype(dtype, device)
    cfg = LazyConfig.load(str(ROOT / "configs" / "Custom" / f"mask_rcnn_{variant}.py"))
    cfg.dataset.num_classes = 1
    cfg.model.backbone.drop_path = 0.0
    seed_step(0)
    model = instantiate(cfg.model).to(device).train()
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    times = []
    with EventStorage(0):
        for step in range(steps + 1):
            records = synthetic_batch(batch, size, seed=step)
            if device.type == "cuda":
                torch.cuda.synchronize()
            started = time.perf_counter()
            with autocast(device, precision):
                losses = model(records)
            sum(losses.values()).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if step:
                times.append(time.perf_counter() - started)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": statistics.median(times),
        "peak_mib": peak,
        "dtype": str(precision).removeprefix("torch."),
    }


def run_rounds(args: argparse.Namespace) -> list[dict]:
    """Every (variant, size) once a round, each in a fresh process, so that peak memory is its own."""
    rows: dict[tuple[str, int], list[dict]] = {(v, s): [] for v in args.variants for s in args.sizes}
    for number in range(args.rounds):
        for variant, size in rows:
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "row.json"
                command = [sys.executable, __file__, "one", variant, str(size), str(args.batch), args.dtype]
                command += [str(args.steps), args.device, str(out)]
                subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
                rows[variant, size].append(json.loads(out.read_text()))
            last = rows[variant, size][-1]
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


def machine() -> str:
    """Processor and thread count, or the GPU, in words."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model
        )
    return f"{model}, {torch.get_num_threads()} threads"


def markdown(rows: list[dict], where: str) -> str:
    import torch

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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes = parser.add_subparsers(dest="mode", required=True)
    train = modes.add_parser("train", help="training step of detectors")
    train.add_argument("--variants", nargs="+", default=["fast_itpn_nano", "fast_itpn_tiny"])
    train.add_argument("--sizes", nargs="+", type=int, default=[256, 512])
    train.add_argument("--batch", type=int, default=2)
    train.add_argument("--dtype", default="auto")
    train.add_argument("--device", default="auto")
    train.add_argument("--steps", type=int, default=5)
    train.add_argument("--rounds", type=int, default=3)
    train.add_argument("--json", type=Path)
    train.add_argument("--markdown", type=Path)
    one = modes.add_parser("one", help="a single measurement in this process (used by the others)")
    for name, kind in (("variant", str), ("size", int), ("batch", int), ("dtype", str), ("steps", int)):
        one.add_argument(name, type=kind)
    one.add_argument("device")
    one.add_argument("out", type=Path)
    args = parser.parse_args()
    if args.mode == "one":
        row = measure_training(args.variant, args.size, args.batch, args.dtype, args.steps, args.device)
        args.out.write_text(json.dumps(row))
        return
    rows = run_rounds(args)
    text = markdown(rows, machine())
    print(text)
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))
    if args.markdown:
        args.markdown.write_text(text)


if __name__ == "__main__":
    main()
