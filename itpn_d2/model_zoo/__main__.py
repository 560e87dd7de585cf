"""The model zoo on the command line.

python -m itpn_d2.model_zoo list --task detection         # names, weights, numbers
python -m itpn_d2.model_zoo show mask_rcnn_fast_itpn_base_1x
python -m itpn_d2.model_zoo download distillation_fast_itpn_base   # or a file, itpn://..., hf://...
python -m itpn_d2.model_zoo verify                        # the files in the cache; --load: into their models
python -m itpn_d2.model_zoo table MODEL_ZOO.md            # write the document
python -m itpn_d2.model_zoo reproduce fast_itpn_base_224 --data imagenet   # the quoted number, measured
python -m itpn_d2.model_zoo reproduce mask_rcnn_itpn_base_1x --data coco --weights FILE
python -m itpn_d2.model_zoo publish output/model_final.pth --config-file F --name NAME --licence L --output D

Exit status: 0 done; 1 a file failed its verification, or was named and is not there; 2 no such model, or a
file that can't be had.
"""

import argparse
import sys
from pathlib import Path

from ..checkpoint import create_from_checkpoint, load_state_file, local_path
from ..checkpoint.loading import load_contents
from ..download import sha256_of
from ..errors import CheckpointError, ConfigError, add_debug, errors_of_use
from ..files import write_text
from .cache import cache_folder
from .card import Card
from .entries import WEIGHTS
from .entry import TASKS, Weights
from .publish import publish
from .registry import find_weights, get_entry, list_entries
from .reproduce import reproduce
from .reproduce import table as compared
from .table import document, show, summary
from .weights_files import PREFIX, present, weights_file
from .zoo import get


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    p = argparse.ArgumentParser(
        prog="python -m itpn_d2.model_zoo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = p.add_subparsers(dest="command", required=True)
    names = commands.add_parser("list", help="list the models")
    names.add_argument("--task", choices=TASKS, help="only models for this task")
    names.add_argument(
        "--pretrained", action=argparse.BooleanOptionalAction, help="only those with published weights"
    )
    one = commands.add_parser("show", help="show all information about some models")
    one.add_argument("names", nargs="+", metavar="NAME")
    files = commands.add_parser("download", help="fetch weights into the cache; prints the paths")
    files.add_argument(
        "names", nargs="+", metavar="NAME", help="name of a model or file, itpn://... or hf://..."
    )
    check = commands.add_parser("verify", help="compare files in the cache with their digests")
    check.add_argument(
        "names", nargs="*", metavar="NAME", help="models or files (default: all files in the cache)"
    )
    check.add_argument("--load", action="store_true", help="also load each file into its model")
    page = commands.add_parser("table", help="write all models as Markdown")
    page.add_argument(
        "target", nargs="?", type=Path, metavar="FILE", help="file to write (default: print the table)"
    )
    again = commands.add_parser(
        "reproduce", help="evaluate published weights and compare with the quoted number"
    )
    again.add_argument("name", metavar="NAME")
    again.add_argument("--data", type=Path, required=True, help="folder of ImageNet or COCO")
    again.add_argument("--weights", metavar="FILE", help="file to evaluate instead of the published weights")
    again.add_argument("--output", type=Path, help="folder for the results (default: output/reproduce/NAME)")
    again.add_argument("--set", nargs="+", default=[], metavar="key=value", help="overrides of the config")
    out = commands.add_parser("publish", help="write a trained checkpoint as a folder for the hub")
    out.add_argument("checkpoint", metavar="CHECKPOINT")
    out.add_argument(
        "--config-file",
        required=True,
        metavar="F",
        help="config of this project that the model was trained with",
    )
    out.add_argument("--name", required=True, help="title of the card")
    out.add_argument("--licence", required=True, help="an identifier, such as apache-2.0")
    out.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    out.add_argument("--data", default="", help="training data, for the card")
    out.add_argument(
        "--metric", action="append", default=[], metavar="NAME=NUMBER", help="a measured metric, for the card"
    )
    out.add_argument("--note", default="", help="further remarks, for the card")
    out.add_argument("--half", action="store_true", help="write float16 instead of float32")
    out.add_argument("--push", metavar="ORG/NAME", help="upload the folder to the Hugging Face hub")
    out.add_argument(
        "--set", nargs="+", default=[], metavar="key=value", help="overrides that the model was trained with"
    )
    add_debug(p)
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(arguments)
    with errors_of_use(args.debug):
        if args.command == "list":
            print("\n".join(summary(get_entry(n)) for n in list_entries(args.task, args.pretrained)))
        elif args.command == "show":
            print("\n\n".join(show(get_entry(name)) for name in args.names))
        elif args.command == "download":
            for name in args.names:
                print(local_path(name if "://" in name else PREFIX + name))
        elif args.command == "table":
            if args.target is None:
                print(document(), end="")
            else:
                write_text(args.target, document())
        elif args.command == "reproduce":
            place = args.output or Path("output/reproduce") / args.name
            rows = reproduce(args.name, args.data, place, args.weights, args.set)
            print(compared(get_entry(args.name).name, rows))
        elif args.command == "publish":
            card = Card(args.licence, args.name, args.data, dict(map(_metric, args.metric)), args.note)
            print(
                publish(args.checkpoint, args.config_file, card, args.output, args.half, args.push, args.set)
            )
        else:
            return _verify(args.names, args.load)
    return 0


def _metric(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        if name:
            return name, float(value)
    except ValueError:
        pass
    raise ConfigError(f"--metric {text!r}: write NAME=NUMBER, e.g. 'box AP=53.1'")


def _verify(names: list[str], load: bool) -> int:
    """Every file is looked at, whatever is wrong with another."""
    chosen = [find_weights(name.removeprefix(PREFIX)) for name in names] or list(WEIGHTS.values())
    wrong = 0
    for weights in dict.fromkeys(chosen):
        try:
            state = _state(weights)
            print(f"{weights.file}: {state or f'not in {cache_folder()}'}")
            if state is None and names:
                wrong = 1
            elif state and load:
                print(_load(weights))
        except CheckpointError as error:
            print(f"{weights.file}: {error}")
            wrong = 1
    return wrong


def _state(weights: Weights) -> str | None:
    """What is known of the file in the cache, None where there is none."""
    path = present(weights)
    if path is None:
        return None
    if weights.sha256 is None:
        return f"{path}: nobody published a digest; its sha256 is {sha256_of(path)}"
    return f"{path}: sha256 is right"


def _load(weights: Weights) -> str:
    """The report of loading a file into the model of the entry whose weights it is."""
    path = weights_file(weights)
    content = load_state_file(path)  # before a model is built for it
    name = next((n for n in list_entries() if get_entry(n).weights == weights), None)
    if name is None:  # the start of many, of none the result
        return f"a {type(create_from_checkpoint(path)).__name__} of its sizes takes it"
    return str(load_contents(get(name, device="cpu"), content, str(path)))


if __name__ == "__main__":
    sys.exit(main())
