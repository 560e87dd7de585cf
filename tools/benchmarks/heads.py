"""Every quick-start head, trained for some iterations on generated scenes and scored on held-out ones.

A run of each config in configs/Quickstart, in a process of its own; the score is that of the moving average.
What is measured is kept after each head (--docs DOCS: in DOCS/measured/heads.json, whose table goes into
DOCS/benchmarks.md), and a second call goes on where the first one was stopped, in the middle of a training
as well (--runs).
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.clock import MeasurementError, own_process
from itpn_d2.engine import Run, load_config
from itpn_d2.engine.precision import resolve_device
from itpn_d2.engine.timing import machine
from itpn_d2.evaluation import read_metrics
from itpn_d2.files import write_json
from pages import rewrite_section

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "Quickstart"


@dataclass(frozen=True)
class Head:
    """What a head is scored by, and the score asked of it after the default number of iterations: one that a
    head with a fault misses, not the best it can do (a map of background alone has an mIoU of 13)."""

    task: str
    metric: str
    target: float


HEADS = {
    "faster_rcnn": Head("detection", "bbox/AP", 30.0),
    "cascade_rcnn": Head("detection", "bbox/AP", 30.0),
    "retinanet": Head("detection", "bbox/AP", 20.0),
    "fcos": Head("detection", "bbox/AP", 20.0),
    "mask_rcnn": Head("instances", "segm/AP", 25.0),
    "cascade_mask_rcnn": Head("instances", "segm/AP", 25.0),
    "point_rend": Head("instances", "segm/AP", 25.0),
    "upernet": Head("semantic", "sem_seg/mIoU", 20.0),
    "semantic_fpn": Head("semantic", "sem_seg/mIoU", 20.0),
    "panoptic_fpn": Head("panoptic", "panoptic_seg/PQ", 40.0),
    "keypoint_rcnn": Head("keypoints", "keypoints/AP", 15.0),
}


def train_head(
    name: str, iterations: int, device: str, folder: str, overrides: tuple[str, ...]
) -> dict[str, Any]:
    """Train and evaluate one head in this process: its score (percent), that of the weights as they are,
    parameters, and seconds of training, the median of an iteration times their number (a run may have been
    stopped in between)."""
    short = [
        f"train.max_iter={iterations}",
        f"train.eval_period={iterations}",
        f"train.checkpointer.period={max(1, iterations // 4)}",
        "train.visualize.period=0",
        "train.validation_loss=False",
        f"train.device={device}",
        "train.init_checkpoint=",
        f"train.output_dir={folder}",
    ]
    run = Run(load_config(str(CONFIGS / f"{name}_fast_itpn_nano.py"), [*short, *overrides]))
    run.train(resume=True)
    stored = Path(folder) / "results.json"
    if not stored.is_file():
        raise MeasurementError(f"{name}: {folder} is completely trained but has no results.json; remove it")
    found = json.loads(stored.read_text())
    _, times = read_metrics(Path(folder) / "metrics.json")["time"]
    metric = HEADS[name].metric
    return {
        "score": found[f"ema/{metric}"],
        "model": found[metric],
        "seconds": float(np.median(times)) * iterations,
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "dtype": str(run.dtype).removeprefix("torch."),
        "results": {k: v for k, v in found.items() if "-" not in k.rpartition("/")[2]},
    }


def table(found: Mapping[str, Any]) -> str:
    """Markdown: a row a head, in the order of :data:`HEADS`."""
    setting = found["setting"]
    lines = [
        f"Quick-start heads after {setting['iterations']} iterations of 8 scenes of 128x128, on "
        f"{found['machine']}, torch {found['torch']}. Scores are those of the moving average, and in "
        f"parentheses of the model, on 100 held-out scenes. A head meets its target if the score of the "
        f"moving average reaches it.",
        "",
        "| head | task | parameters, M | minutes | metric | score | target | met |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, head in HEADS.items():
        row = found["heads"].get(name)
        if row is None:
            continue
        if "reason" in row:
            lines.append(f"| {name} | {head.task} | | | {head.metric} | not measured: {row['reason']} | | |")
            continue
        met = "yes" if (row["score"] or 0.0) >= head.target else "no"
        scores = [f"{v:.1f}" if v is not None else "-" for v in (row["score"], row["model"])]
        lines.append(
            f"| {name} | {head.task} | {row['parameters'] / 1e6:.2f} | {row['seconds'] / 60:.1f} "
            f"| {head.metric} | {scores[0]} ({scores[1]}) | {head.target:.0f} | {met} |"
        )
    return "\n".join(lines) + "\n"


def measured_file(docs: Path) -> Path:
    return docs / "measured" / "heads.json"


def update_docs(docs: Path, found: Mapping[str, Any]) -> None:
    """Write the section of ``benchmarks.md`` anew.

    Raises:
        UseError: there is no such file, or a half of its section's marks is missing.
    """
    text = f"## Heads\n\n`{found['command']}` wrote this section.\n\n{table(found)}"
    rewrite_section(docs / "benchmarks.md", "heads", text)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--heads", nargs="+", choices=list(HEADS), default=list(HEADS))
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument(
        "--docs", type=Path, help="documentation folder to update; heads measured there are skipped"
    )
    parser.add_argument("--runs", type=Path, default=Path("output/heads"), help="folder of the training runs")
    parser.add_argument(
        "--override", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of every config"
    )


def _earlier(args: argparse.Namespace, setting: Mapping[str, Any]) -> dict[str, Any]:
    """The heads measured before with the same setting."""
    path = measured_file(args.docs) if args.docs else args.json
    if path is None or not path.is_file():
        return {}
    before = json.loads(path.read_text())
    same = before.get("setting") == setting
    return {n: row for n, row in before["heads"].items() if "reason" not in row} if same else {}


def run(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The table, and all that was measured."""
    setting = {"iterations": args.iterations, "overrides": list(args.override)}
    command = ["python tools/benchmark.py heads", f"--iterations {args.iterations}"]
    command += [f"--docs {args.docs}"] if args.docs else []
    command += [f"--override {' '.join(args.override)}"] if args.override else []
    found: dict[str, Any] = {
        "command": " ".join(command),
        "machine": machine(resolve_device(args.device)),
        "torch": torch.__version__,
        "setting": setting,
        "heads": _earlier(args, setting),
    }
    for name in args.heads:
        if name in found["heads"]:
            print(f"{name}: measured before", flush=True)
            continue
        folder = args.runs / f"{name}_{args.iterations}"
        try:
            row = own_process(
                train_head, name, args.iterations, args.device, str(folder), tuple(args.override)
            )
        except MeasurementError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            row = {"reason": str(error).splitlines()[0]}
        found["heads"][name] = row
        print(f"{name}: {row.get('score', row.get('reason'))}", flush=True)
        for path in filter(None, [args.json, measured_file(args.docs) if args.docs else None]):
            write_json(path, found)
        if args.docs:
            update_docs(args.docs, found)
    return table(found), found
