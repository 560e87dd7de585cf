"""Runs of some iterations, as a user starts them: images a second, waiting for data, MFU, memory.

Every run is one of ``train_net.py`` or ``python -m pretrain`` in a process of its own, on generated JPEGs of
500x375 pixels that workers load; the figures are those of its ``metrics.json``, medians without the first
half. A share of the time that waits for data says that more workers are needed.
"""

import argparse
import json
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.clock import MeasurementError, own_process
from benchmarks.loader_cases import pictures
from itpn_d2.engine import Run, load_config
from itpn_d2.engine.precision import resolve_device
from itpn_d2.engine.timing import machine
from itpn_d2.files import write_json
from pretrain.run import PretrainRun

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@dataclass(frozen=True)
class Recipe:
    """A run.

    Attributes:
        config: below ``configs/``.
        batch: images of a step on a GPU.
        overrides: of the config.
    """

    config: str
    batch: int
    overrides: tuple[str, ...] = ()


RECIPES = {
    "pixel_base": Recipe("Pretrain/pixel_mim_fast_itpn_base.py", 512),
    "pixel_large": Recipe("Pretrain/pixel_mim_fast_itpn_large.py", 512),
    "mask_rcnn_base": Recipe("Custom/mask_rcnn_fast_itpn_base.py", 8),
    "dino_base": Recipe("Custom/dino_fast_itpn_base.py", 4),
    "pixel_nano": Recipe("Pretrain/pixel_mim_fast_itpn_nano.py", 64),
    "mask_rcnn_nano": Recipe("Custom/mask_rcnn_fast_itpn_nano.py", 8),
}


def as_coco(records: list[dict[str, Any]], path: Path) -> None:
    """Write records of one class as a COCO json."""
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    for number, record in enumerate(records):
        images.append({"id": number, "file_name": Path(record["file_name"]).name})
        images[-1].update(height=record["height"], width=record["width"])
        for one in record["annotations"]:
            x, y, w, h = one["bbox"]
            found = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
            annotations.append({**found, "bbox": [x, y, w, h], "area": w * h})
            annotations[-1]["segmentation"] = one["segmentation"]
    categories = [{"id": 1, "name": "object"}]
    write_json(path, {"images": images, "annotations": annotations, "categories": categories})


def measure(name: str, args: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Figures of one run, in this process."""
    recipe, root = RECIPES[name], Path(folder)
    batch = args.batch or recipe.batch
    options = [
        f"train.output_dir={root / name}",
        f"train.device={args.device}",
        "train.count_flops=True",
        "train.log_period=1",
        f"dataloader.train.total_batch_size={batch}",
        f"dataloader.train.num_workers={args.workers}",
        *recipe.overrides,
        *args.overrides,
    ]
    pretraining = recipe.config.startswith("Pretrain")
    images = sorted((root / "images").glob("*.jpg"))
    if pretraining:
        epochs = max(1, args.steps * batch // len(images))
        options += [f"dataset.train.root={root / 'images'}", f"train.epochs={epochs}"]
        options += ["train.visualize.epochs=0", "train.checkpointer.epochs=0"]
        run: Any = PretrainRun(load_config(str(CONFIGS / recipe.config), options))
    else:
        data = [f"dataset.{part}.json={root / 'data.json'}" for part in ("train", "val")]
        data += [f"dataset.{part}.images={root / 'images'}" for part in ("train", "val")]
        options += [*data, f"train.max_iter={args.steps}", "train.eval_period=0", "train.init_checkpoint="]
        options += ["train.visualize.period=0", "dataloader.test.num_workers=0"]
        run = Run(load_config(str(CONFIGS / recipe.config), options))
    run.train()
    rows = [json.loads(line) for line in (root / name / "metrics.json").read_text().splitlines()]
    return figures(rows, batch)


def figures(rows: list[dict[str, Any]], batch: int) -> dict[str, Any]:
    """Medians over the last half of a run's rows of ``metrics.json``, and the share of waiting for data.

    Raises:
        MeasurementError: no row tells how many images a second there were.
    """
    late = [row for row in rows[len(rows) // 2 :] if "images_per_s" in row]
    if not late:
        raise MeasurementError("metrics.json: no row with images_per_s")

    def median(key: str) -> float | None:
        values = [row[key] for row in late if key in row]
        return statistics.median(values) if values else None

    speed = median("images_per_s")
    assert speed is not None
    found = {key: median(key) for key in ("tflops", "mfu", "memory_gib")}
    waiting = (median("data_time") or 0.0) * speed / batch
    return {"batch": batch, "images_per_s": speed, "waiting": waiting, "rows": len(late), **found}


def markdown(results: dict[str, dict[str, Any]], args: argparse.Namespace, where: str) -> str:
    lines = [
        f"Runs of {args.steps} iterations with {args.workers} workers on {where}, torch {torch.__version__}.",
        "",
        "| run | batch | images/s | waiting for data | TFLOP/s | MFU | memory, GiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in results.items():
        config = RECIPES[name].config.removesuffix(".py")
        if "reason" in found:
            lines.append(f"| {config} | not measured: {found['reason']} | | | | | |")
            continue
        told = [
            "" if found[key] is None else f"{found[key]:{form}}"
            for key, form in (("tflops", ".2f"), ("mfu", ".0%"), ("memory_gib", ".1f"))
        ]
        lines.append(
            f"| {config} | {found['batch']} | {found['images_per_s']:.1f} | {found['waiting']:.0%} | "
            f"{' | '.join(told)} |"
        )
    return "\n".join(lines) + "\n"


def add_options(parser: argparse.ArgumentParser) -> None:
    default = ["pixel_base", "pixel_large", "mask_rcnn_base", "dino_base"]
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=default)
    parser.add_argument("--steps", type=int, default=30, help="number of iterations")
    parser.add_argument("--batch", type=int, default=0, help="images per step; 0: as in the recipe")
    parser.add_argument("--images", type=int, default=256, help="number of generated images")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument(
        "--overrides", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of every config"
    )


def run(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The table, and all that was measured; a run that fails has the reason in its row."""
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "images").mkdir()
        as_coco(pictures(root / "images", 500, 375, args.images, 8), root / "data.json")
        for name in args.recipes:
            try:
                results[name] = own_process(measure, name, args, folder)
            except MeasurementError as error:
                results[name] = {"reason": " ".join(str(error).split())[-160:].replace("|", "/")}
            print(f"{name}: {results[name]}", flush=True)
    where = machine(resolve_device(args.device))
    return markdown(results, args, where), {
        "machine": where,
        "torch": torch.__version__,
        "steps": args.steps,
        "workers": args.workers,
        "results": results,
    }
