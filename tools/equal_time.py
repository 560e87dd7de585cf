"""Which detector has learnt most after the same processor time? For CPUs.

    python tools/equal_time.py --output OUT --minutes 6 \\
        --arm "Mask R-CNN" configs/Quickstart/mask_rcnn_fast_itpn_nano.py \\
        --arm DINO configs/Quickstart/dino_fast_itpn_nano.py optimizer.lr=4e-4 \\
        --start pre-trained=pretrained.pth --all train.best_metric=bbox/AP train.ema.enabled=False

Every arm is a config with its own overrides; ``--all`` holds for each. It is trained from scratch and from
each ``--start``, for as many iterations as take ``--minutes`` of processor time, so that its schedule ends
with them; evaluations come on top. What is done already is not done again, and a training that was stopped
goes on. Writes ``OUT/equal_time.json``, ``OUT/equal_time.md`` and ``OUT/equal_time.png``.
"""

import argparse
import json
import math
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from detectron2.engine import HookBase
from tqdm import tqdm

from benchmarks.clock import MeasurementError, own_process
from itpn_d2.engine import Run, load_config
from itpn_d2.engine.timing import machine
from itpn_d2.errors import add_debug, errors_of_use
from itpn_d2.evaluation import read_metrics
from itpn_d2.files import write_json, write_text, written_whole

METRICS = ("bbox/AP", "segm/AP")
SCRATCH = "from scratch"
_PROBE = (4, 20)  # iterations: to warm up, and then to measure
_QUIET = ("train.validation_loss=False", "train.visualize.period=0", "train.device=cpu")


@dataclass(frozen=True)
class Arm:
    """A detector: its name in the table, its config, and overrides of it."""

    name: str
    config: str
    overrides: tuple[str, ...] = ()


class IterationClock(HookBase):
    """Processor seconds of every iteration."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def before_step(self) -> None:
        self._started = time.process_time()

    def after_step(self) -> None:
        self.seconds.append(time.process_time() - self._started)


def seconds_per_iteration(arm: Arm) -> float:
    """Processor seconds of one training iteration, in this process; the mean of some, after a few to warm
    up."""
    warm_up, measured = _PROBE
    clock = IterationClock()
    with TemporaryDirectory() as folder:
        short = [f"train.max_iter={warm_up + measured}", "train.eval_period=0", f"train.output_dir={folder}"]
        Run(load_config(arm.config, [*arm.overrides, *short])).train(more_hooks=[clock])
    return sum(clock.seconds[warm_up:]) / measured


def train(arm: Arm, iterations: int, evaluations: int, start: str | None, folder: str) -> dict[str, Any]:
    """One training in this process, gone on with where there is one; processor minutes are those of this
    call, evaluations included."""
    period = math.ceil(iterations / evaluations)
    options = [
        *arm.overrides,
        f"train.max_iter={iterations}",
        f"train.eval_period={period}",
        f"train.checkpointer.period={period}",
        f"train.output_dir={folder}",
        f"train.init_checkpoint={start or ''}",  # configs may start from the weights in the package
    ]
    before = time.process_time()
    Run(load_config(arm.config, options)).train(resume=True)
    stored = Path(folder) / "results.json"
    if not stored.is_file():
        raise MeasurementError(f"{folder} is completely trained but has no results.json; remove it")
    final = json.loads(stored.read_text())
    history = read_metrics(Path(folder) / "metrics.json")
    curves = {
        metric: [(int(x) + 1, float(y)) for x, y in zip(*history[metric], strict=True)]
        for metric in METRICS
        if metric in history
    }
    scores = {metric: final[metric] for metric in METRICS if final.get(metric) is not None}
    return {"scores": scores, "curves": curves, "minutes": (time.process_time() - before) / 60}


def table(found: Mapping[str, Any]) -> str:
    """Markdown: a row each arm and start."""
    metrics = [m for m in METRICS if any(m in row["scores"] for row in found["runs"].values())]
    lines = [
        f"{found['minutes']:g} minutes of processor time each, without evaluations; {found['machine']}, "
        f"torch {found['torch']}.",
        "",
        f"| detector | initialised from | iterations | s/iteration | {' | '.join(metrics)} |",
        "|" + "---|" * (4 + len(metrics)),
    ]
    for row in found["runs"].values():
        scores = [f"{row['scores'][m]:.1f}" if m in row["scores"] else "" for m in metrics]
        cells = [row["arm"], row["start"], str(row["iterations"]), f"{row['seconds']:.2f}", *scores]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(found: Mapping[str, Any], path: Path) -> None:
    """Scores over processor minutes of training: a panel a metric, a colour an arm, dashed from scratch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    metrics = [m for m in METRICS if any(m in row["curves"] for row in found["runs"].values())]
    arms = list(dict.fromkeys(row["arm"] for row in found["runs"].values()))
    starts = list(dict.fromkeys(row["start"] for row in found["runs"].values()))
    size = (5.5 * len(metrics), 4.2)
    figure, axes = pyplot.subplots(1, len(metrics), figsize=size, layout="constrained", squeeze=False)
    for axis, metric in zip(axes[0], metrics, strict=True):
        for row in found["runs"].values():
            curve = row["curves"].get(metric, [])
            axis.plot(
                [iteration * row["seconds"] / 60 for iteration, _ in curve],
                [score for _, score in curve],
                color=f"C{arms.index(row['arm'])}",
                linestyle=("--", "-", "-.", ":")[starts.index(row["start"]) % 4],
                marker="o",
                label=f"{row['arm']}, from {row['start']}",
            )
        axis.set(xlabel="processor minutes of training", ylabel=metric, xlim=(0, None), ylim=(0, None))
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize="small")
    with written_whole(path) as partial:
        figure.savefig(partial, dpi=120)
    pyplot.close(figure)


class Journal:
    """What was measured, written after each measurement.

    Args:
        output: the folder of the files; what a file there holds of the same budget is not measured again.
        minutes: the budget.
    """

    def __init__(self, output: Path, minutes: float):
        self.path = output / "equal_time.json"
        content = json.loads(self.path.read_text()) if self.path.is_file() else {}
        same = content.get("minutes") == minutes
        self.seconds: dict[str, float] = content["seconds"] if same else {}
        self.runs: dict[str, dict[str, Any]] = content["runs"] if same else {}
        self.found = {
            "minutes": minutes,
            "machine": machine(torch.device("cpu")),
            "torch": torch.__version__,
            "seconds": self.seconds,
            "runs": self.runs,
        }

    def write(self) -> None:
        write_json(self.path, self.found)
        if self.runs:
            write_text(self.path.with_suffix(".md"), table(self.found))
            plot(self.found, self.path.with_suffix(".png"))


def compare(
    arms: Sequence[Arm], starts: Mapping[str, str | None], minutes: float, evaluations: int, output: Path
) -> dict[str, Any]:
    """Run what is not done yet.

    Raises:
        MeasurementError: a run failed. Those before it are kept.
    """
    journal = Journal(output, minutes)
    pairs = [(arm, start) for arm in arms for start in starts]
    for arm, start in tqdm(pairs, desc="trainings", unit="training"):
        setting = " ".join([arm.name, arm.config, *arm.overrides])
        key = f"{setting} from {starts[start]}"
        if key in journal.runs:
            continue
        if setting not in journal.seconds:
            journal.seconds[setting] = own_process(seconds_per_iteration, arm)
            journal.write()
        seconds = journal.seconds[setting]
        iterations = max(1, round(minutes * 60 / seconds))
        folder = output / f"{_slug(arm.name)}_{_slug(start)}_{md5(key.encode()).hexdigest()[:6]}"
        tqdm.write(f"{arm.name} from {start}: {iterations} iterations, {folder}", file=sys.stderr)
        row = own_process(train, arm, iterations, evaluations, starts[start], str(folder))
        journal.runs[key] = {
            "arm": arm.name,
            "start": start,
            "iterations": iterations,
            "seconds": seconds,
            **row,
        }
        journal.write()
    return journal.found


def _slug(name: str) -> str:
    return re.sub(r"\W+", "_", name.lower()).strip("_")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_debug(p)
    p.add_argument("--output", type=Path, required=True, help="folder for the runs and the results")
    p.add_argument(
        "--minutes", type=float, default=6.0, help="processor time of each training run (default: 6)"
    )
    p.add_argument(
        "--evaluations", type=int, default=3, help="evaluations in each run, evenly spaced (default: 3)"
    )
    p.add_argument(
        "--arm",
        nargs="+",
        action="append",
        required=True,
        metavar="WORD",
        help="a detector to train: a name, a config, and overrides key=value",
    )
    p.add_argument(
        "--start",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a name and a checkpoint to start from, or an address such as itpn://fast_itpn_nano",
    )
    p.add_argument("--only-starts", action="store_true", help="leave out training from scratch")
    p.add_argument("--all", nargs="+", default=[], metavar="key=value", help="overrides of every arm")
    args = p.parse_args(arguments)
    for words in args.arm:
        if len(words) < 2 or not Path(words[1]).is_file():
            p.error(f"--arm {' '.join(words)}: a name and an existing config file must come first")
    for start in args.start:
        file = start.partition("=")[2]
        if "://" not in file and not Path(file).is_file():
            p.error(
                f"--start {start}: write NAME=FILE, where FILE exists or is an address such as itpn://NAME"
            )
    if args.minutes <= 0 or args.evaluations < 1:
        p.error(
            f"--minutes {args.minutes:g} --evaluations {args.evaluations}: minutes must be more than "
            "0, evaluations at least 1"
        )
    if args.only_starts and not args.start:
        p.error("--only-starts leaves nothing to do without --start")
    return args


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    arms = [Arm(name, config, (*_QUIET, *args.all, *own)) for name, config, *own in args.arm]
    starts: dict[str, str | None] = {} if args.only_starts else {SCRATCH: None}
    starts |= {name: file for name, _, file in (start.partition("=") for start in args.start)}
    with errors_of_use(args.debug):
        found = compare(arms, starts, args.minutes, args.evaluations, args.output)
    print(table(found), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
