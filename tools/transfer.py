"""Does pre-training help a detector, and does its pyramid's part? Several seeds, equal fine-tuning.

    python tools/transfer.py --output OUT --seeds 1 2 3 --finetune train.max_iter=300 train.eval_period=100

    python tools/transfer.py --output OUT --checkpoint itpn://fast_itpn_nano --arms none trunk pixel

Arms: ``none``; ``trunk`` (pixel pre-training, with a random pyramid); ``pixel``, ``mfm``, ``fastmim``
(trunk and pyramid). Every seed pre-trains and fine-tunes anew, or starts from ``--checkpoint``. What is done
already is not done again, and a run that was stopped goes on. Writes ``OUT/transfer.json``,
``OUT/transfer.md`` and ``OUT/transfer.png``.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from tqdm import tqdm

from benchmarks.clock import MeasurementError
from itpn_d2.checkpoint import load_state_file, local_path, to_native, unwrap
from itpn_d2.errors import add_debug, errors_of_use
from itpn_d2.evaluation.curves import read_metrics
from itpn_d2.files import write_json, write_text, written_whole
from run_progress import progress

ROOT = Path(__file__).resolve().parents[1]
_LOOK = 5.0  # seconds between two looks at the runs
_DONE = "done.txt"  # in the folder of a run, with its command; results.json is written at each evaluation
CONFIGS = {"pixel": "pixel_mim", "mfm": "mfm", "fastmim": "fastmim_hog"}
ARMS = {"none": None, "trunk": "pixel", "pixel": "pixel", "mfm": "mfm", "fastmim": "fastmim"}
LABELS = {
    "none": "from scratch",
    "trunk": "trunk (pixels), random pyramid",
    "pixel": "trunk and pyramid (pixels)",
    "mfm": "trunk and pyramid (MFM)",
    "fastmim": "trunk and pyramid (FastMIM, HOG)",
}


@dataclass(frozen=True)
class Plan:
    """What to run; see the command's help."""

    output: Path
    pretrain_configs: str
    finetune_config: str
    finetune: tuple[str, ...]
    pretrain: tuple[str, ...]
    metric: str
    threads: int
    parallel: int
    checkpoint: Path | None = None  # instead of pre-training
    running: dict[Path, subprocess.Popen[bytes]] = field(default_factory=dict)  # by folder

    def pretrained(self, method: str, seed: int) -> Path:
        """The checkpoint that fine-tuning starts from."""
        return self.checkpoint or self.output / f"pretrain_{method}_{seed}" / "model_final.pth"


def run(plan: Plan, command: list[str], folder: Path) -> None:
    """Run unless ``folder`` says that this was done; the output of runs side by side goes to ``stdout.txt``
    there.

    Raises:
        MeasurementError: the run failed or was stopped, or another command was run in the folder.
    """
    text, done = " ".join(command), folder / _DONE
    if done.is_file():
        if done.read_text() == text:
            return
        raise MeasurementError(
            f"{folder}: holds the results of another command ({done}); choose another --output or remove it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    tqdm.write(f"{folder.name}: {text}", file=sys.stderr)
    threads = {"OMP_NUM_THREADS": str(plan.threads)} if plan.threads else {}
    try:
        with ExitStack() as stack:
            log = stack.enter_context(open(folder / "stdout.txt", "w")) if plan.parallel > 1 else None
            plan.running[folder] = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env={**os.environ, **threads},
                stdout=log,
                stderr=log and subprocess.STDOUT,
            )
            status = plan.running[folder].wait()
    finally:
        plan.running.pop(folder, None)
    if status:
        raise MeasurementError(f"{text}: exit status {status}; its log is in {folder}")
    if not (folder / "model_final.pth").is_file():  # a signal: it has saved, and ends as if all were well
        raise MeasurementError(f"{folder}: the run was stopped before its end; call the same command again")
    write_text(done, text)


def pretrain(plan: Plan, method: str, seed: int) -> Path:
    """The checkpoint of one pre-training."""
    folder = plan.output / f"pretrain_{method}_{seed}"
    config = plan.pretrain_configs.format(method=CONFIGS[method])
    options = [*plan.pretrain, f"train.seed={seed}", f"train.output_dir={folder}"]
    run(plan, ["-m", "pretrain", "--resume", "--config-file", config, *options], folder)
    return plan.pretrained(method, seed)


def without_pyramid(checkpoint: Path, path: Path) -> Path:
    """A copy at ``path`` that holds the trunk only."""
    if not path.is_file():
        state = to_native(unwrap(load_state_file(checkpoint))).state
        trunk = {k: v.contiguous() for k, v in state.items() if k.startswith("trunk.")}
        with written_whole(path) as partial:
            save_file(trunk, partial)
    return path


def finetune(plan: Plan, arm: str, seed: int) -> dict[str, Any]:
    """The metrics of one fine-tuning."""
    folder = plan.output / f"{arm}_{seed}"
    start: Path | str = ""
    method = ARMS[arm]
    if method is not None:
        start = plan.pretrained(method, seed)
        if arm == "trunk":
            start = without_pyramid(start, plan.output / f"trunk_{seed}.safetensors")
    options = [*plan.finetune, f"train.seed={seed}", f"train.output_dir={folder}"]
    options.append(f"train.init_checkpoint={start}")  # '' too: a config may start from the package's weights
    run(plan, ["train_net.py", "--resume", "--config-file", plan.finetune_config, *options], folder)
    x, y = read_metrics(folder / "metrics.json")[plan.metric]
    final = json.loads((folder / "results.json").read_text())
    return {"final": final, "curve": [(int(a) + 1, float(b)) for a, b in zip(x, y, strict=True)]}


def finetune_when(ready: Future[Path] | None, plan: Plan, arm: str, seed: int) -> dict[str, Any]:
    """:func:`finetune` after its pre-training, if it has one."""
    if ready is not None:
        ready.result()
    return finetune(plan, arm, seed)


def watch(plan: Plan, submitted: Iterable[Future[Any]], bar: "tqdm[Any]") -> None:
    """Wait for all, and say where they are; a run that has the terminal for itself says so on its own."""
    waiting = set(submitted)
    while waiting:
        done, waiting = wait(waiting, timeout=_LOOK)
        bar.update(len(done))
        if plan.parallel > 1:
            bar.set_postfix_str(progress(list(plan.running)))


def stop_with_runs(plan: Plan, *_: object) -> None:
    """What SIGTERM does: Ctrl-C reaches the runs as well, but this signal may be for this process alone."""
    for process in list(plan.running.values()):
        process.terminate()
    raise KeyboardInterrupt


def compare(plan: Plan, arms: Sequence[str], seeds: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    """The metrics of every arm's fine-tuning with every seed.

    Raises:
        MeasurementError: a run failed, or the folder holds those of another command.
    """
    methods = [m for m in CONFIGS if m in {ARMS[arm] for arm in arms} and plan.checkpoint is None]
    runs: dict[str, list[Future[dict[str, Any]]]] = {arm: [] for arm in arms}
    submitted: set[Future[Any]] = set()
    total = len(seeds) * (len(methods) + len(arms))
    with ThreadPoolExecutor(plan.parallel) as pool, tqdm(total=total, desc="runs", unit="run") as bar:
        # seed by seed, so that a comparison that is cut short has whole seeds; what waits for a pre-training
        # comes after it, so some run always goes on
        for seed in seeds:
            ready = {method: pool.submit(pretrain, plan, method, seed) for method in methods}
            for arm in sorted(arms, key=lambda arm: ARMS[arm] is not None):
                runs[arm].append(pool.submit(finetune_when, ready.get(ARMS[arm] or ""), plan, arm, seed))
            submitted.update([*ready.values(), *(of_arm[-1] for of_arm in runs.values())])
        try:
            watch(plan, submitted, bar)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)  # those that run have had the signal too
            raise
    return {arm: [run.result() for run in of_arm] for arm, of_arm in runs.items()}


def summarise(found: dict[str, list[dict[str, Any]]], metric: str) -> str:
    """A Markdown table: mean and spread over the seeds, and each seed."""
    lines = [f"| initialised from | {metric}, mean | standard deviation | seeds |", "|---|---|---|---|"]
    for arm, runs in found.items():
        values = [r["final"][metric] for r in runs]
        spread = f"{statistics.stdev(values):.1f}" if len(values) > 1 else "-"
        each = ", ".join(f"{v:.1f}" for v in values)
        lines.append(f"| {LABELS[arm]} | {statistics.mean(values):.1f} | {spread} | {each} |")
    return "\n".join(lines) + "\n"


def plot(found: dict[str, list[dict[str, Any]]], metric: str, path: Path) -> None:
    """AP over iterations: mean of the seeds as a line, their range as a band."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for arm, runs in found.items():
        columns = list(zip(*(r["curve"] for r in runs), strict=False))
        x = [c[0][0] for c in columns]
        values = [[point[1] for point in c] for c in columns]
        (line,) = axis.plot(x, [statistics.mean(v) for v in values], marker="o", label=LABELS[arm])
        axis.fill_between(
            x, [min(v) for v in values], [max(v) for v in values], color=line.get_color(), alpha=0.15
        )
    axis.set(xlabel="fine-tuning iterations", ylabel=metric)
    axis.grid(alpha=0.3)
    axis.legend()
    with written_whole(path) as partial:
        figure.savefig(partial, dpi=120)
    pyplot.close(figure)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_debug(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs and the results")
    parser.add_argument(
        "--pretrain-configs",
        default="configs/Quickstart/{method}_fast_itpn_nano.py",
        help="path of the pre-training configs, where {method} stands for "
        f"{', '.join(CONFIGS.values())} (default: %(default)s)",
    )
    parser.add_argument("--finetune-config", default="configs/Quickstart/mask_rcnn_fast_itpn_nano.py")
    parser.add_argument(
        "--finetune", nargs="*", default=[], metavar="key=value", help="overrides of the fine-tuning config"
    )
    parser.add_argument(
        "--pretrain", nargs="*", default=[], metavar="key=value", help="overrides of the pre-training configs"
    )
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="use this pre-trained checkpoint for all seeds instead of pre-training",
    )
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--metric", default="segm/AP", help="metric to compare, named as in metrics.json")
    parser.add_argument("--parallel", type=int, default=1, help="number of runs at the same time")
    parser.add_argument(
        "--threads", type=int, default=0, help="number of torch threads per run; 0: torch decides"
    )
    args = parser.parse_args(arguments)
    if args.checkpoint and set(args.arms) - {"none", "trunk", "pixel"}:
        parser.error("--checkpoint: with a given file, --arms may only be none, trunk and pixel")
    plan = Plan(
        args.output.resolve(),
        args.pretrain_configs,
        args.finetune_config,
        tuple(args.finetune),
        tuple(args.pretrain),
        args.metric,
        args.threads,
        args.parallel,
        Path(local_path(args.checkpoint)).resolve() if args.checkpoint else None,
    )
    before = signal.signal(signal.SIGTERM, partial(stop_with_runs, plan))
    with errors_of_use(args.debug):
        try:
            found = compare(plan, args.arms, args.seeds)
        except KeyboardInterrupt:
            print("Stopped; the same command goes on from the last checkpoints.", file=sys.stderr)
            return 130
        finally:
            signal.signal(signal.SIGTERM, before)
    write_json(plan.output / "transfer.json", found)
    table = summarise(found, args.metric)
    write_text(plan.output / "transfer.md", table)
    plot(found, args.metric, plan.output / "transfer.png")
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
