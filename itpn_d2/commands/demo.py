"""Predictions of any config on images, folders and videos.

    itpn-demo --input PHOTO --output output/demo    # with the small detector of cells in the package
    itpn-demo --config-file output/x/config.yaml --weights output/x/model_final.pth \\
        --input FILES|FOLDER|VIDEO --output output/demo
    itpn-demo --config-file output/x/config.yaml --weights output/x/model_final.pth \\
        --input FOLDER --output output/demo --opts 'model.backbone.migration={keep: 0.7}'

Writes pictures/ and videos/, results in COCO's formats (instances.json, stuff.json, panoptic.json, with the
ids of images.json), and summary.json. Files that can't be read are listed at the end; the exit status is then
1.
"""

import argparse
import sys
from pathlib import Path

from ..errors import add_debug, errors_of_use
from ..files import make_folder
from ..inference.inputs import find_inputs, printable
from ..inference.job import Job
from ..inference.opening import open_predictor


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--config-file",
        metavar="FILE|NAME|FOLDER",
        help="config, zoo name, folder written by save_pretrained, or hf://org/name of the Hugging Face hub "
        "(default: the detector in the package)",
    )
    p.add_argument(
        "--input", required=True, nargs="+", metavar="PATH", help="images, folders, patterns or videos"
    )
    p.add_argument(
        "--output",
        type=Path,
        default=Path("output/predictions"),
        metavar="FOLDER",
        help="folder for the results (default: %(default)s)",
    )
    p.add_argument(
        "--weights", metavar="FILE", help="checkpoint of the trained model (default: train.init_checkpoint)"
    )
    p.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        help="score threshold for drawing (the JSON contains all detections)",
    )
    p.add_argument("--batch-size", type=int, default=1, help="number of images per batch")
    p.add_argument("--device", help="device, such as cuda or cpu (default: CUDA if available)")
    p.add_argument(
        "--dtype", default="fp32", choices=("fp32", "bf16", "fp16", "auto"), help="precision of the model"
    )
    p.add_argument(
        "--compile", action="store_true", help="compile trunk and pyramid, which pays off for many images"
    )
    p.add_argument(
        "--min-side",
        type=int,
        default=480,
        help="enlarge smaller drawings until their longer side has this many pixels (0: never)",
    )
    p.add_argument("--no-pictures", action="store_true", help="write only the results, no drawings")
    p.add_argument(
        "--ids-from",
        type=Path,
        metavar="JSON",
        help="COCO json whose image and category ids are used in the results",
    )
    p.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], metavar="key=value", help="config overrides"
    )
    add_debug(p)
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    p = parser()
    args = p.parse_args(arguments)
    if not 0 <= args.threshold <= 1:
        p.error(f"--threshold {args.threshold}: choose 0 to 1")
    if args.batch_size < 1:
        p.error(f"--batch-size {args.batch_size}: at least 1")
    with errors_of_use(args.debug):
        make_folder(args.output)  # errors are reported now, not after the model is loaded
        inputs = find_inputs(args.input, args.output)
        predictor = open_predictor(
            args.config_file,
            args.weights,
            args.opts,
            device=args.device,
            dtype=args.dtype,
            compile=args.compile,
        )
        job = Job(
            predictor,
            args.output,
            args.threshold,
            args.batch_size,
            args.min_side,
            draw=not args.no_pictures,
            known=args.ids_from,
        )
        summary = job.run(inputs)
    print(printable(str(summary)))
    if summary.interrupted:
        return 130
    return 1 if summary.failed else 0


if __name__ == "__main__":
    sys.exit(main())
