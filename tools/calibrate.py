"""Which token migration and token gathering a trained detector can do with: AP against latency.

    python tools/calibrate.py --config-file F train.init_checkpoint=model_final.pth
    python tools/calibrate.py --config-file F train.init_checkpoint=model_final.pth --images 200 \\
        --keep 0.8 0.7,0.6 --at 0.5 0.25,0.5 --windows 14 16 --tokens 4 8

Evaluates the dense model, migration, gathering, and both together, each on the config's validation set with
its evaluator, and times backbone and model beside the dense ones. ``calibration.json`` in the output folder
gets every setting as soon as it is done; the same command goes on from there. Then ``calibration.md``,
``calibration.png``, and the overrides of the fastest setting within ``--max-loss``.
"""

import argparse
import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from calibration.grid import (
    DENSE,
    DEPTHS,
    KEEP,
    TOKENS,
    Acceleration,
    Grid,
    build_grid,
    combine,
    default_windows,
    numbers,
)
from calibration.measure import Bench, learned_parameters
from calibration.report import Point, command, fastest, front, markdown, overrides, plot, points
from itpn_d2.checkpoint import local_path
from itpn_d2.engine import Run, load_config
from itpn_d2.engine.start import named_weights
from itpn_d2.engine.timing import machine
from itpn_d2.errors import ConfigError, add_debug, errors_of_use
from itpn_d2.files import write_json, write_text

METRICS = ("segm/AP", "bbox/AP", "sem_seg/mIoU")  # the first that was measured is the default
_OVERRIDE = re.compile(r"[+~]{0,2}[A-Za-z_][\w.]*=")
Results = dict[Acceleration, dict[str, Any]]


class Journal:
    """What was measured, in a file that is never behind.

    Args:
        path: of the JSON; its results are reused, except failures.
        setup: all that a result depends on but the setting.

    Raises:
        ConfigError: the file is of another setup, or is none of ours.
    """

    def __init__(self, path: Path, setup: dict[str, Any]):
        self.path, self.setup = path, setup
        self.results: Results = {}
        if not path.is_file():
            return
        try:
            content = json.loads(path.read_text())
            theirs, rows = content["setup"], content["results"]
            self.results = {_setting(row.pop("setting")): row for row in rows}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}: it was not written by this tool; choose another --output") from error
        differing = sorted(k for k in {*setup, *theirs} if setup.get(k) != theirs.get(k))
        if differing:
            pairs = ", ".join(f"{k}: {theirs.get(k)} there and {setup.get(k)} here" for k in differing)
            raise ConfigError(
                f"{path} was measured with other settings ({pairs}); choose another --output, or --fresh"
            )

    def done(self, setting: Acceleration) -> bool:
        return setting in self.results and "reason" not in self.results[setting]

    def add(self, setting: Acceleration, result: dict[str, Any]) -> None:
        self.results[setting] = result
        rows = [{"setting": asdict(s), **r} for s, r in self.results.items()]
        write_json(self.path, {"setup": self.setup, "results": rows})


def _setting(row: dict[str, Any]) -> Acceleration:
    return Acceleration(tuple(row["keep"]), tuple(row["at"]), row["window"], row["tokens"])


def setup_of(run: Run, args: argparse.Namespace, checkpoint: str) -> dict[str, Any]:
    """What has to be the same for two results to be comparable."""
    device = run.device
    # two runs on the same weights, data and machine may be in different folders
    ignored = ("train.output_dir=", "OUTPUT_DIR=", "train.init_checkpoint=", "MODEL.WEIGHTS=")
    return {
        "config": Path(args.config_file).name,
        "overrides": [o for o in args.opts if not o.startswith(ignored)],
        "checkpoint": sha256(Path(local_path(checkpoint)).read_bytes()).hexdigest()[:16],
        "images": args.images,
        "samples": args.samples,
        "rounds": args.rounds,
        "device": machine(device),
        "dtype": str(run.dtype).removeprefix("torch."),
        "torch": torch.__version__,
    }


def sweep(bench: Bench, journal: Journal, settings: Sequence[Acceleration], title: str) -> None:
    """Measure what is not done yet; a failure is noted, said, and costs nothing else.

    Raises:
        ConfigError: dense failed, without which nothing can be said of the others.
    """
    missing = [setting for setting in settings if not journal.done(setting)]
    bar = tqdm(missing, desc=title, unit="setting", dynamic_ncols=True, disable=not missing)
    for setting in bar:
        bar.set_postfix_str(setting.name)
        try:
            result = bench.measure(setting)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            journal.add(setting, {"reason": reason})
            if setting == DENSE:
                raise ConfigError(f"the dense model can't be evaluated: {reason}") from error
            bar.write(f"{setting.name}: failed, {reason}")
            continue
        if result["untrained"]:
            names = ", ".join(result["untrained"])
            bar.write(f"{setting.name}: {names} of the checkpoint has another shape and is not used")
        journal.add(setting, result)


def choose_metric(args: argparse.Namespace, results: Results) -> str:
    measured = results[DENSE]["metrics"]
    name = args.metric or next((m for m in METRICS if measured.get(m) is not None), None)
    if name is None or measured.get(name) is None:
        there = ", ".join(k for k, v in measured.items() if v is not None and "-" not in k)
        raise ConfigError(f"--metric {name}: not measured on this dataset; there are: {there}")
    return name


def combinations(args: argparse.Namespace, grid: Grid, results: Results, metric: str) -> list[Acceleration]:
    """Migration together with gathering: none, all, or of what stands on the front of its kind and dense."""
    if args.combine == "none":
        return []
    chosen = {kind: grid.of(kind) for kind in ("migration", "gathering")}
    if args.combine == "front":
        found = points(results, metric)
        for kind, settings in chosen.items():
            best = {p.setting for p in front([p for p in found if p.setting in (DENSE, *settings)])}
            chosen[kind] = [setting for setting in settings if setting in best]
    return list(combine(chosen["migration"], chosen["gathering"]))


def report(args: argparse.Namespace, bench: Bench, journal: Journal, grid: Grid, metric: str) -> Point:
    """Write table and picture, print the choice."""
    tried = {DENSE, *grid.settings}
    results = {s: r for s, r in journal.results.items() if s in tried}
    found = points(results, metric)
    best = fastest(found, args.max_loss, args.by)
    failed = {s: r for s, r in results.items() if "reason" in r}
    setup, counted = journal.setup, args.images or "all"
    where = (
        f"{setup['config']}, {counted} images, {setup['dtype']}, {setup['device']}, torch {setup['torch']}"
    )
    noise = {part: results[DENSE]["latency"][part]["value"] for part in ("model", "backbone")}
    table = markdown(found, metric, where, failed, grid.skipped, noise)
    yacs = args.config_file.endswith((".yaml", ".yml"))
    present = {part: bool(getattr(bench.options, part)) for part in ("migration", "gathering")}
    more = overrides(results[best.setting]["options"], present, yacs)
    change = best.score - found[0].score
    text = [
        f"Fastest within {args.max_loss:g} {metric} of dense: {best.setting.name}: {metric} {best.score:.2f} "
        f"({change:+.2f}), model {best.speed['model']:.2f}x, backbone {best.speed['backbone']:.2f}x",
        f"Overrides: {shlex.join(more) or 'none'}",
        command(args.config_file, bench.run.cfg.train.init_checkpoint, args.opts, more),
    ]
    write_text(args.output / "calibration.md", table + "\n" + "\n\n".join(text) + "\n")
    plot(args.output / "calibration.png", found, metric, best, args.max_loss)
    print(table, *text, sep="\n")
    print(f"calibration: {(args.output / 'calibration.md').resolve()}")
    return best


def parse(arguments: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--config-file", required=True, metavar="FILE", help="config: a LazyConfig .py or a .yaml")
    p.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="folder to write to (default: calibration in train.output_dir)",
    )
    p.add_argument("--fresh", action="store_true", help="discard the measurements of an earlier call")
    p.add_argument(
        "--metric", help=f"metric to compare (default: the first measured of {', '.join(METRICS)})"
    )
    p.add_argument(
        "--max-loss", type=float, default=0.5, help="largest accepted loss of the metric (default: 0.5)"
    )
    p.add_argument(
        "--by", choices=("model", "backbone"), default="model", help="part whose latency ranks the settings"
    )
    p.add_argument("--images", type=_count, help="number of validation images, evenly spaced (default: all)")
    p.add_argument("--samples", type=_count, default=5, help="number of images to measure latency on")
    p.add_argument("--rounds", type=_count, default=15, help="timed repetitions of each setting")
    p.add_argument(
        "--keep",
        nargs="*",
        type=numbers,
        default=[numbers(k) for k in KEEP],
        metavar="RATIO,...",
        help="keep ratios of migration to try",
    )
    p.add_argument(
        "--at",
        nargs="*",
        type=numbers,
        default=[numbers(d) for d in DEPTHS],
        metavar="SHARE,...",
        help="depths of the drops to try, as fractions of stage 3",
    )
    p.add_argument(
        "--windows",
        nargs="*",
        type=int,
        help="window sides to try, in tokens (default: chosen by the image size)",
    )
    p.add_argument(
        "--tokens", nargs="*", type=int, default=list(TOKENS), help="numbers of gathering tokens to try"
    )
    p.add_argument(
        "--combine",
        choices=("front", "all", "none"),
        default="front",
        help="settings to combine: those on the fronts, all or none",
    )
    add_debug(p)
    p.add_argument(
        "opts", nargs="*", metavar="key=value", help="overrides of the config; they may be given anywhere"
    )
    words = sys.argv[1:] if arguments is None else arguments
    # taken out first: an option of several values would take them for more of these
    opts = [word for word in words if _OVERRIDE.match(word)]
    args = p.parse_args([word for word in words if not _OVERRIDE.match(word)])
    if args.opts:
        p.error(f"{' '.join(args.opts)}: write overrides as key=value")
    args.opts = opts
    return args


def _count(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


def calibrate(args: argparse.Namespace) -> Point:
    """The whole of it; returns the chosen point."""
    cfg = load_config(args.config_file, args.opts)
    args.output = args.output or Path(cfg.train.output_dir) / "calibration"
    cfg.train.output_dir = str(args.output)
    run = Run(cfg)
    run.load_weights("calibration")
    checkpoint = named_weights(cfg)
    path = args.output / "calibration.json"
    if args.fresh:
        path.unlink(missing_ok=True)
    journal = Journal(path, setup_of(run, args, checkpoint))
    bench = Bench(run, learned_parameters(checkpoint), args.images, args.samples, args.rounds)
    windows = default_windows(bench.grid) if args.windows is None else args.windows
    grid = build_grid(bench.depth, bench.grid, args.keep, args.at, windows, args.tokens)
    for name, reason in grid.skipped.items():
        print(f"{name}: not tried, {reason}")
    sweep(bench, journal, [DENSE], "dense")
    metric = choose_metric(args, journal.results)
    sweep(bench, journal, grid.settings, "migration, gathering")
    both = combinations(args, grid, journal.results, metric)
    sweep(bench, journal, both, "both")
    grid.settings += both
    return report(args, bench, journal, grid, metric)


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    with errors_of_use(args.debug):
        calibrate(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
