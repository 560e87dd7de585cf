"""Models for elsewhere: written, run again from the file, compared with eager and timed beside it.

    python tools/export.py --config-file F --weights W --output DIR
    python tools/export.py --config-file F --weights W --output DIR --formats onnx --sizes 320x384 512x512

Backbone and pyramid with free height and width (multiples of 32): program (torch.export), aoti (compiled
package), onnx. A whole R-CNN, by Detectron2's tracing: torchscript, detector-onnx. A whole DINO or Mask DINO
up to the scores, boxes and masks of its queries, for one size: queries-program, queries-onnx. By default all
that there are for the model. Sizes are heights x widths; the first is the one that is exported with. Writes
the files, ``export.json`` and ``export.md``; the exit status is 1 where a format fails or differs from eager
by more than --tolerance.
"""

import argparse
import importlib.util
import statistics
import sys
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.clock import interleave, machine
from export_formats import FORMATS, STEP, Call, Detector, Features, Queries, formats_of
from itpn_d2.errors import ConfigError, add_debug, errors_of_use
from itpn_d2.files import write_json, write_text
from itpn_d2.inference import Predictor, read_image
from itpn_d2.meta_arch import DINO


@dataclass
class Result:
    """What became of one format.

    Attributes:
        name, file, mib: the format and its file.
        differences: largest absolute difference from eager by size; of a detector that of scores and of
            boxes in pixels, whichever is larger.
        eager_ms, exported_ms: median milliseconds by size, taken in turns.
        reason: why it failed, else None.
    """

    name: str
    file: str = ""
    mib: float = 0.0
    differences: dict[str, float] = field(default_factory=dict)
    eager_ms: dict[str, float] = field(default_factory=dict)
    exported_ms: dict[str, float] = field(default_factory=dict)
    reason: str | None = None


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--config-file", required=True, metavar="FILE|NAME", help="config, or name of a zoo entry")
    p.add_argument("--weights", metavar="FILE", help="of the trained model (else train.init_checkpoint)")
    p.add_argument("--output", required=True, type=Path, metavar="FOLDER")
    p.add_argument("--name", default="model", help="what the files' names begin with")
    p.add_argument("--formats", nargs="+", choices=FORMATS, help="default: all of the model's")
    p.add_argument("--sizes", nargs="+", default=["320x384", "256x256", "512x320"], metavar="HxW")
    p.add_argument("--image", metavar="FILE", help="to compare on (else noise), stretched to each size")
    p.add_argument(
        "--tolerance", type=float, default=1e-4, help="largest absolute difference (detectors: 0.01)"
    )
    p.add_argument("--rounds", type=int, default=5, help="of timing")
    p.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], metavar="key=value", help="config overrides"
    )
    add_debug(p)
    return p


def sizes_of(given: list[str]) -> list[tuple[int, int]]:
    """(height, width) of each.

    Raises:
        ConfigError: not of that form, or not multiples of 32 from 64 on.
    """
    found = []
    for text in given:
        parts = text.split("x")
        if len(parts) != 2 or not all(part.isdigit() and int(part) % STEP == 0 for part in parts):
            raise ConfigError(f"--sizes {text}: write HEIGHTxWIDTH, both multiples of {STEP}, e.g. 320x384")
        if min(map(int, parts)) < 2 * STEP:
            raise ConfigError(f"--sizes {text}: at least {2 * STEP} pixels each")
        found.append((int(parts[0]), int(parts[1])))
    return found


def pictures(sizes: list[tuple[int, int]], file: str | None) -> dict[str, Tensor]:
    """``(3, H, W)``, 0..255, by size."""
    if file is None:
        generator = torch.Generator().manual_seed(0)
        return {f"{h}x{w}": 255 * torch.rand(3, h, w, generator=generator) for h, w in sizes}
    image = torch.from_numpy(read_image(file).copy()).permute(2, 0, 1)[None].float()
    resize = torch.nn.functional.interpolate
    return {
        f"{h}x{w}": resize(image, (h, w), mode="bilinear", antialias=True).clamp(0, 255)[0] for h, w in sizes
    }


def difference(eager: list[Tensor], exported: list[Tensor], fields: list[str] | None) -> float:
    """The largest absolute one. Detections are compared in the order of their scores.

    Raises:
        ValueError: shapes differ.
    """
    if [a.shape for a in eager] != [b.shape for b in exported]:
        shapes = " ".join(f"{tuple(a.shape)}/{tuple(b.shape)}" for a, b in zip(eager, exported, strict=False))
        raise ValueError(f"eager and exported give other shapes: {shapes}")
    if fields is None:
        return max(float((a - b).abs().max()) for a, b in zip(eager, exported, strict=True))
    largest = 0.0
    orders = [
        found[fields.index("scores")].argsort(descending=True, stable=True) for found in (eager, exported)
    ]
    for name, a, b in zip(fields, eager, exported, strict=True):
        if len(a) and name != "pred_classes":
            largest = max(largest, float((a[orders[0]].float() - b[orders[1]].float()).abs().max()))
    return largest


def _step(call: Call, image: Tensor, _: int) -> None:
    call(image)


def measure(
    name: str, eager: Call, exported: Call, images: dict[str, Tensor], fields: list[str] | None, rounds: int
) -> Result:
    """Difference and latency of a format at each size."""
    result = Result(name)
    device = next(iter(images.values())).device
    for size, image in images.items():
        given = image if fields is not None else image[None]
        with torch.inference_mode():
            result.differences[size] = difference(eager(given), exported(given), fields)
            steps = [partial(_step, call, given) for call in (eager, exported)]
            times = interleave(steps[0], steps[1], rounds, device)
        result.eager_ms[size], result.exported_ms[size] = (1000 * statistics.median(t) for t in times)
    return result


def export(name: str, model: nn.Module, images: dict[str, Tensor], args: argparse.Namespace) -> Result:
    """Write one format, load it again and compare; a failure is a result, too."""
    format = FORMATS[name]
    if name not in formats_of(model):
        return Result(name, reason=f"not for {type(model).__name__}; it has {', '.join(formats_of(model))}")
    lacking = [package for package in format.needs if importlib.util.find_spec(package) is None]
    if lacking:
        return Result(name, reason=f"needs {', '.join(lacking)}: pip install 'itpn-d2[export]'")
    size, first = next(iter(images.items()))
    images = {size: first} if format.fixed else images
    path = args.output / f"{args.name}{format.suffix}"
    try:
        subject: nn.Module
        fields, example = None, first[None]
        if format.subject == "features":
            subject = Features(model).eval()
        elif isinstance(model, DINO):
            subject = Queries(model).eval()
        else:
            subject = Detector(model, first).eval()
            fields, example = subject.fields, first
        format.write(subject, example, path)
        result = measure(name, lambda x: list(subject(x)), format.load(path), images, fields, args.rounds)
    except Exception as error:
        return Result(name, reason=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    result.file, result.mib = path.name, path.stat().st_size / 2**20
    return result


def verdict(result: Result, tolerance: float) -> str | None:
    """What is wrong with a result; None if nothing is."""
    if result.reason is not None:
        return result.reason
    # boxes are in pixels, and reach far beyond 1
    allowed = 100 * tolerance if FORMATS[result.name].subject == "detector" else tolerance
    worst = max(result.differences.values())
    return None if worst <= allowed else f"differs by {worst:.1e}, {allowed:.0e} is allowed"


def table(results: list[Result], title: str) -> str:
    """Markdown."""
    lines = [
        title,
        "",
        "| format | file | size | difference | eager, ms | exported, ms |",
        "|---|---|---|---|---|---|",
    ]
    for r in results:
        for size, value in r.differences.items():
            times = f"{r.eager_ms[size]:.1f} | {r.exported_ms[size]:.1f}"
            lines.append(f"| {r.name} | {r.file} ({r.mib:.1f} MiB) | {size} | {value:.1e} | {times} |")
        if r.reason is not None:
            lines.append(f"| {r.name} | failed | | {r.reason} | | |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = parser().parse_args(arguments)
    with errors_of_use(args.debug):
        images = pictures(sizes_of(args.sizes), args.image)
        predictor = Predictor(args.config_file, args.weights, "cpu", overrides=args.opts)
    args.output.mkdir(parents=True, exist_ok=True)
    results = []
    for name in args.formats or formats_of(predictor.model):
        print(f"{name} ...", flush=True)
        results.append(export(name, predictor.model, images, args))
        rows = [asdict(result) for result in results]
        write_json(args.output / "export.json", rows)
    title = f"{Path(str(args.config_file)).stem}, {machine(torch.device('cpu'))}, torch {torch.__version__}"
    text = table(results, title)
    write_text(args.output / "export.md", text)
    print(text)
    wrong = {r.name: problem for r in results if (problem := verdict(r, args.tolerance)) is not None}
    for name, problem in wrong.items():
        print(f"{name}: {problem}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
