"""What reading annotations costs: seconds until all processes of a machine have them, and their memory.

A json in COCO's layout, with pictures, is generated and read by some processes in three ways: by Detectron2's
``load_coco_json`` in each of them; with all checks of this project in each of them; and as in a run, where
one process reads and the others map what it found. Each measurement has new processes. Memory is Linux's
proportional set size, in which pages that several processes share count once for all.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data import DatasetCatalog, DatasetFromList
from detectron2.data.datasets import load_coco_json
from detectron2.utils import comm

from benchmarks.loader_cases import pictures
from itpn_d2.data import register_coco
from itpn_d2.data.catalogs import registered_once
from itpn_d2.data.record_table import RecordTable
from itpn_d2.engine import launch
from itpn_d2.engine.timing import machine
from pages import rewrite_section

_PICTURES = 32  # different ones; the others are links to them


def generate(folder: Path, images: int, objects: int) -> Path:
    """Write ``images`` pictures and ``folder/annotations.json`` of them; its path."""
    drawn = pictures(folder, 320, 240, min(images, _PICTURES), objects)
    found: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "star"}]}
    (folder / "images").mkdir()
    for number in range(1, images + 1):
        record = drawn[number % len(drawn)]
        name = f"{number:012d}.jpg"
        (folder / "images" / name).hardlink_to(record["file_name"])
        found["images"].append({"id": number, "file_name": name, "width": 320, "height": 240})
        for thing in record["annotations"]:
            area = float(np.prod(thing["bbox"][2:]))
            kept = {key: thing[key] for key in ("bbox", "segmentation", "iscrowd")}
            identity = len(found["annotations"]) + 1
            found["annotations"].append(
                {"id": identity, "image_id": number, "category_id": 1, "area": area, **kept}
            )
    path = folder / "annotations.json"
    path.write_text(json.dumps(found))
    return path


def by_detectron2(path: str, images: str) -> Any:
    """Detectron2's reader and its serialised list, in every process."""
    return DatasetFromList(load_coco_json(path, images, "benchmark_theirs"), copy=False, serialize=True)


def by_each(path: str, images: str) -> Any:
    """Ours with all checks, in every process."""
    found = DatasetCatalog.get(_registered(path, images))
    return RecordTable(found) if isinstance(found, list) else found


def by_one(path: str, images: str) -> Any:
    """Ours as in a run: one process of the machine reads."""
    return DatasetCatalog.get(registered_once(lambda: _registered(path, images)))


def _registered(path: str, images: str) -> str:
    # pictures are opened for their sizes; decoding all of them would be most of the time
    return register_coco("benchmark_ours", path, images, verify_images="header")


WAYS: dict[str, Callable[[str, str], Any]] = {
    "Detectron2's reader in each process": by_detectron2,
    "all checks, in each process": by_each,
    "all checks, in one process for all": by_one,
}


def memory_mib() -> float:
    """This process's part of the machine's memory; what it shares is divided among those that share it."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) / 2**10


def _main(name: str, path: str, images: str, output: str) -> None:
    comm.synchronize()
    before, start = memory_mib(), time.perf_counter()
    kept = WAYS[name](path, images)
    comm.synchronize()
    seconds = time.perf_counter() - start
    for number in range(len(kept)):  # pages of a mapped file count once they have been read
        kept[number]
    comm.synchronize()  # all are measured while all have their records
    row = (seconds, memory_mib() - before, len(kept))
    rows = comm.gather(row)
    comm.synchronize()
    if comm.is_main_process():
        Path(output).write_text(json.dumps(rows))


def measure(name: str, path: Path, processes: int) -> tuple[float, float, int]:
    """Seconds until all have the records, MiB that they take in all, and the number of records."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "rows.json"
        arguments = (name, str(path), str(path.parent / "images"), str(output))
        launch(_main, num_processes=processes, args=arguments, device="cpu")
        rows = json.loads(output.read_text())
    return max(row[0] for row in rows), sum(row[1] for row in rows), rows[0][2]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images", type=int, default=5000, help="number of images; COCO's validation set has 5,000"
    )
    parser.add_argument("--objects", type=int, default=7, help="objects per image; COCO has 7.3")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--docs", type=Path, metavar="FOLDER", help="also write the section into FOLDER/benchmarks.md"
    )


def run(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The table, and all that was measured."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        path = generate(Path(folder), args.images, args.objects)
        for number in range(args.rounds):
            for name in WAYS:
                print(f"round {number + 1} of {args.rounds}: {name} ...", flush=True)
                found[name].append(measure(name, path, args.processes))
        megabytes = path.stat().st_size / 1e6
    lines = [
        f"A json of {args.images} images and {args.images * args.objects} objects ({megabytes:.0f} MB), read "
        f"by {args.processes} processes; medians of {args.rounds} rounds, in which the methods alternate; "
        f"{machine(torch.device('cpu'))}.",
        "",
        "| | seconds until all processes have it | memory of all processes, MiB |",
        "|---|---|---|",
    ]
    for name, rounds in found.items():
        seconds, memory = (statistics.median(row[column] for row in rounds) for column in (0, 1))
        lines.append(f"| {name} | {seconds:.1f} | {memory:.0f} |")
    text = "\n".join(lines) + "\n"
    if args.docs:
        command = f"`python tools/benchmark.py reading --rounds {args.rounds} --docs docs`"
        rewrite_section(
            args.docs / "benchmarks.md",
            "reading",
            f"## Reading annotations\n\n{command} wrote this section.\n\n{text}",
        )
    return text, {"machine": machine(torch.device("cpu")), "ways": found}
