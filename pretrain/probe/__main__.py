"""Probe the features of a pre-trained trunk on labelled images, without fine-tuning it.

python -m pretrain.probe --weights FILE --name fast_itpn_nano --train PLACE --test PLACE
python -m pretrain.probe --config-file configs/Custom/linear_probe_fast_itpn_nano.py --opts \
    dataset.train.images=PLACE dataset.val.images=PLACE train.init_checkpoint=FILE

A PLACE is a folder with one sub-folder per class, or a text file with lines path,label.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from itpn_d2.backbone import create_model
from itpn_d2.checkpoint import load_pretrained
from itpn_d2.data import as_classes, labelled_source
from itpn_d2.errors import CheckpointError, config_errors, errors_of_use
from itpn_d2.files import write_json

from ..data import BrokenImages, TestView, build_image_loader
from .classifiers import Accuracy, knn_accuracy, linear_probe
from .command import start_parser
from .config import expand
from .features import LEVELS, TrunkFeatures, extract_features

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def parser() -> argparse.ArgumentParser:
    p = start_parser("python -m pretrain.probe", __doc__)
    p.add_argument("--config-file", metavar="F", help="classifier's config that says the other required ones")
    p.add_argument("--opts", metavar="key=value", help="overrides of the config, after all other options")
    p.add_argument("--average", action="store_true", help="take the file's moving average if it has one")
    p.add_argument("--train", required=True, metavar="PLACE", help="training images")
    p.add_argument("--test", required=True, metavar="PLACE", help="test images")
    p.add_argument("--root", default="", help="what relative paths in text files are relative to")
    p.add_argument("--image-size", type=int, default=224, help="side in pixels (default: %(default)s)")
    p.add_argument("--crop-fraction", type=float, default=0.875, help="share of the short side that is seen")
    p.add_argument("--level", default="f3", choices=LEVELS, help="map to average: stage 3, or the pyramid's")
    p.add_argument("--k", type=int, default=20, help="neighbours")
    p.add_argument("--temperature", type=float, default=0.07, help="temperature of the neighbours' votes")
    p.add_argument("--batch-size", type=int, default=64)
    p.add_argument("--num-workers", type=int, default=2)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--dtype", default="float32", choices=_DTYPES, help="precision of the trunk")
    p.add_argument("--seed", type=int, default=0, help="seed of the random weights and the held-out split")
    p.add_argument("--json", metavar="OUT", help="write the numbers there, too")
    return p


def _model(args: argparse.Namespace) -> TrunkFeatures:
    torch.manual_seed(args.seed)
    whole: Any = create_model(args.name, pyramid=args.level != "f3")
    if args.weights:
        report = load_pretrained(whole, args.weights, prefer_average=args.average)
        print(report, file=sys.stderr)
        if any(name.startswith("pyramid.") for name in report.missing):
            raise CheckpointError(f"{args.weights}: its pyramid is missing or incomplete; choose --level f3")
    if args.level == "f3":
        return TrunkFeatures(whole)
    return TrunkFeatures(whole.trunk, pyramid=whole.pyramid, level=args.level)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Everything the command reports, as plain numbers.

    Raises:
        UseError, ValueError, KeyError: with what to change.
    """
    sources = {split: labelled_source(getattr(args, split), args.root) for split in ("train", "test")}
    model, view = _model(args), TestView(args.image_size, args.crop_fraction)
    data: dict[str, tuple[Tensor, Tensor]] = {}
    for split, source in sources.items():
        broken = BrokenImages()
        loader = build_image_loader(source, view, args.batch_size, args.num_workers)
        data[split] = extract_features(model, loader, args.device, _DTYPES[args.dtype], broken)
        if len(broken):
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
        "knn": {**knn_accuracy(*both, k=args.k, temperature=args.temperature), "k": args.k},
        "linear": linear_probe(*both, seed=args.seed),
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


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    with errors_of_use("--debug" in given):
        with config_errors():
            args = parser().parse_args(expand(given))
            result = run(args)
        print(table(result))
        if args.json:
            write_json(args.json, result, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
