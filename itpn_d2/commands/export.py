"""Export a model: each file is written, loaded again, compared with the eager model and timed beside it.

    itpn-export --config-file F --weights W --output DIR
    itpn-export --config-file F --weights W --output DIR --formats onnx --sizes 320x384 512x512

Backbone and pyramid with free height and width (multiples of 32): program (torch.export), aoti (compiled
package), onnx. A whole R-CNN, by Detectron2's tracing: torchscript, detector-onnx. A whole DINO or Mask DINO
up to the scores, boxes and masks of its queries, for one size: queries-program, queries-onnx. By default all
formats that the model supports are written. Sizes are heights x widths; the first is the size of the example
used for the export. Writes the files, ``export.json`` and ``export.md``; the exit status is 1 if a format
fails or differs from eager by more than --tolerance.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from ..engine.timing import machine
from ..errors import ConfigError, add_debug, errors_of_use
from ..export.check import export, table, verdict
from ..export.formats import FORMATS, STEP, formats_of
from ..files import write_json, write_text
from ..inference import Predictor, read_image


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--config-file", required=True, metavar="FILE|NAME", help="config, or name of a zoo entry")
    p.add_argument(
        "--weights", metavar="FILE", help="checkpoint of the trained model (default: train.init_checkpoint)"
    )
    p.add_argument(
        "--output", required=True, type=Path, metavar="FOLDER", help="folder for the exported files"
    )
    p.add_argument("--name", default="model", help="prefix of the file names")
    p.add_argument(
        "--formats",
        nargs="+",
        choices=FORMATS,
        help="formats to write (default: all that the model supports)",
    )
    p.add_argument(
        "--sizes",
        nargs="+",
        default=["320x384", "256x256", "512x320"],
        metavar="HxW",
        help="image sizes to compare and time",
    )
    p.add_argument(
        "--image", metavar="FILE", help="image to compare on, stretched to each size (default: noise)"
    )
    p.add_argument(
        "--tolerance", type=float, default=1e-4, help="largest allowed absolute difference (detectors: 0.01)"
    )
    p.add_argument("--rounds", type=int, default=5, help="number of timed repetitions")
    p.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], metavar="key=value", help="config overrides"
    )
    add_debug(p)
    return p


def sizes_of(given: list[str]) -> list[tuple[int, int]]:
    """(height, width) of each.

    Raises:
        ConfigError: not of that form, or not multiples of 32 of at least 64.
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
        results.append(export(name, predictor.model, images, args.output, args.name, args.rounds))
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
