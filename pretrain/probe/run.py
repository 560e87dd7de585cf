"""The work of the probing command in each of its processes; it is here since spawned processes can't import
from the ``__main__`` of a package."""

import argparse
import sys
from functools import partial
from typing import Any

import torch
from detectron2.utils import comm
from torch import Tensor

from itpn_d2.backbone import create_model
from itpn_d2.checkpoint import load_pretrained
from itpn_d2.data import as_classes, labelled_source, read_once
from itpn_d2.errors import CheckpointError, config_errors
from itpn_d2.files import write_json

from ..data import BrokenImages, TestView, build_image_loader
from .classifiers import Accuracy, knn_accuracy, linear_probe
from .features import TrunkFeatures, extract_features

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def _model(args: argparse.Namespace) -> TrunkFeatures:
    torch.manual_seed(args.seed)
    whole: Any = create_model(args.name, pyramid=args.level != "f3")
    if args.weights:
        report = load_pretrained(whole, args.weights, prefer_average=args.average)
        if comm.is_main_process():
            print(report, file=sys.stderr)
        if any(name.startswith("pyramid.") for name in report.missing):
            raise CheckpointError(f"{args.weights}: its pyramid is missing or incomplete; choose --level f3")
    if args.level == "f3":
        return TrunkFeatures(whole)
    return TrunkFeatures(whole.trunk, pyramid=whole.pyramid, level=args.level)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Everything the command reports, as plain numbers; collective.

    Raises:
        UseError, ValueError, KeyError: with what to change.
    """
    sources = {
        split: read_once(split, partial(labelled_source, getattr(args, split), args.root))
        for split in ("train", "test")
    }
    model, view = _model(args), TestView(args.image_size, args.crop_fraction)
    data: dict[str, tuple[Tensor, Tensor]] = {}
    for split, source in sources.items():
        broken = BrokenImages()
        loader = build_image_loader(source, view, args.batch_size, args.num_workers)
        data[split] = extract_features(model, loader, args.device, DTYPES[args.dtype], broken)
        for reasons in comm.gather(broken.reasons):
            broken.add(reasons.items())
        if len(broken) and comm.is_main_process():
            print(broken.summary(), file=sys.stderr)
    classes = sources["train"].classes
    labels = as_classes(data["test"][1], sources["test"], classes)
    both = (*data["train"], data["test"][0], labels)
    most = int(data["train"][1].bincount().argmax())
    return {
        "name": args.name,
        "weights": args.weights,
        "level": args.level,
        "image_size": args.image_size,
        "classes": len(classes),
        "sources": {split: source.summary for split, source in sources.items()},
        "largest_class": {"top1": 100 * (labels == most).double().mean().item()},
        "knn": {**knn_accuracy(*both, k=args.k, temperature=args.temperature, shared=True), "k": args.k},
        "linear": linear_probe(*both, seed=args.seed, shared=True),
    }


def table(result: dict[str, Any]) -> str:
    """The accuracies in percent, a line each."""
    rows: list[tuple[str, Accuracy]] = [
        ("largest class", result["largest_class"]),
        (f"k-NN, k = {result['knn']['k']}", result["knn"]),
        (f"linear, L2 = {result['linear']['l2']:g}", result["linear"]),
    ]
    lines = [f"{'':<22}{'top-1':>8}{'top-5':>8}"]
    for name, values in rows:
        cells = (f"{values[key]:8.2f}" if key in values else f"{'-':>8}" for key in ("top1", "top5"))
        lines.append(f"{name:<22}{''.join(cells)}")
    images = [result["sources"][split]["images"] for split in ("train", "test")]
    start = result["weights"] or "random weights"
    head = f"{result['name']}, {start}: {result['level']} at {result['image_size']} pixels"
    return "\n".join([head, f"{images[0]} training and {images[1]} test images", *lines])


def report(args: argparse.Namespace) -> None:
    """Measure; the main process prints the table and writes ``--json``."""
    with config_errors():
        result = run(args)
    if not comm.is_main_process():
        return
    print(table(result))
    if args.json:
        write_json(args.json, result, indent=2)
