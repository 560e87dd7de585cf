"""What loading costs: milliseconds of one core from a file to the tensor that a model takes.

All pipelines of a case make the same samples in turns, image by image, so that a machine that slows down
favours none. Pictures and objects are generated. Times are those of the process, not of the clock: what other
processes do does not count.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import torch

from benchmarks.loader_cases import Case, Record, cases, pictures
from itpn_d2.engine.timing import machine
from pages import rewrite_section

SIZES = ("500x375", "640x480", "1600x1200")
_NAMES = ("pillow", "auto", "Detectron2", "timm", "torchvision v2")


def measure(case: Case, records: Sequence[Record], rounds: int) -> dict[str, list[float]]:
    """Milliseconds an image of every side in every round; the round before the first is not counted."""
    spent: dict[str, list[float]] = {name: [] for name in case.sides}
    for number in range(rounds + 1):
        seconds = dict.fromkeys(case.sides, 0.0)
        for place, record in enumerate(records):
            for name, side in case.sides.items():
                start = time.process_time()
                side(record, number * len(records) + place)
                seconds[name] += time.process_time() - start
        if number:
            for name, total in seconds.items():
                spent[name].append(1e3 * total / len(records))
    return spent


def row(case: Case, size: str, spent: dict[str, list[float]]) -> str:
    """The line of the table: medians, and how many times as many images ``auto`` makes as Detectron2's
    mapper, or else as ``pillow``, which shares our masks and boxes."""
    cells = [f"{statistics.median(spent[n]):.1f}" if n in spent else "" for n in _NAMES]
    base = spent.get("Detectron2", spent["pillow"])
    ratios = [a / b for a, b in zip(base, spent["auto"], strict=True)]
    ratio = statistics.median(ratios)
    met = f" ({'met' if ratio >= case.target else 'missed'}: {case.target:g})" if case.target else ""
    return f"| {case.text} | {size} | {' | '.join(cells)} | {ratio:.2f}{met} |"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", nargs="+", choices=list(cases()), default=list(cases()))
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), metavar="WxH")
    parser.add_argument("--images", type=int, default=8, help="number of images of each size")
    parser.add_argument("--objects", type=int, default=8, help="objects per image; COCO has 7.3")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--docs", type=Path, metavar="FOLDER", help="also write the section into FOLDER/benchmarks.md"
    )


def run(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The table, and all that was measured."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    chosen, results, lines = cases(), {}, []
    with tempfile.TemporaryDirectory() as folder:
        for size in args.sizes:
            width, height = (int(side) for side in size.split("x"))
            records = pictures(Path(folder), width, height, args.images, args.objects)
            for name in args.cases:
                print(f"{name} {size} ...", flush=True)
                spent = measure(chosen[name], records, args.rounds)
                results[f"{name} {size}"] = spent
                lines.append(row(chosen[name], size, spent))
    where = machine(torch.device("cpu"))
    text = "\n".join(
        [
            f"Milliseconds per image on one core, medians of {args.rounds} rounds of {args.images} generated "
            f"JPEGs (quality 90) with {args.objects} objects each; {where}, torch {torch.__version__}. "
            f"`pillow` and `auto` are values of `dataloader.decoder`; torchvision v2 transforms pixels only, "
            f"not boxes. The last column is the throughput of `auto` over that of Detectron2's mapper, or "
            f"over that of `pillow` if there is no such mapper, with its target.",
            "",
            f"| recipe | image | {' | '.join(_NAMES)} | gain of auto |",
            "|---" * (len(_NAMES) + 3) + "|",
            *lines,
        ]
    )
    if args.docs:
        command = "`python tools/benchmark.py loader --docs docs` wrote this section."
        rewrite_section(args.docs / "benchmarks.md", "loader", f"## Loading\n\n{command}\n\n{text}\n")
    return text + "\n", {"machine": where, "torch": torch.__version__, "milliseconds": results}
