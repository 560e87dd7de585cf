"""All that only a GPU can tell, by one command of less than eight minutes: ``make gpu-check``.

    python tools/gpu_check.py --docs docs
    python tools/gpu_check.py --twin --docs COPY

Every part is a mode of ``tools/benchmark.py`` in a process of its own, with a limit of seconds; one that
fails or takes longer is reported and costs the others nothing. What was measured is kept in
``DOCS/measured/gpu_<part>.json``, the backbone's in ``backbone_cuda.json``, and the section "On a GPU" of
``DOCS/benchmarks.md`` has the tables, each with its command, machine and date.

``--twin`` does the same on the CPU at small size, to try the command itself. Its figures say nothing, so that
``--docs`` has to be another folder than the project's.

Exit codes: 0: every part was measured and every comparison of values is met; 1: a comparison is not met or
was not made; 3: another part failed. A user error has 2.
"""

import argparse
import datetime
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from itpn_d2.errors import UseError, add_debug, errors_of_use
from itpn_d2.files import write_json
from pages import rewrite_section

TOOLS = Path(__file__).resolve().parent
DOCS = TOOLS.parent / "docs"
VALUES = "values"
Call = Callable[[list[str], int], str]


@dataclass(frozen=True)
class Part:
    """A call of ``tools/benchmark.py``.

    Attributes:
        seconds: limit; of all parts together less than eight minutes.
        gpu, twin: its arguments, the mode first; without a twin a test has the same call.
        own_section: it writes its tables itself.
    """

    name: str
    title: str
    seconds: int
    gpu: str
    twin: str
    own_section: bool = False


_WRITING_SECONDS = 30
_TWIN_SECONDS = 600  # of a part, on a CPU that may be busy
_BACKBONE = "backbone --rounds 5 --dtypes bf16"
PARTS = (
    Part(
        VALUES,
        "Values",
        60,
        "values",
        "values --size 64 --cases deformable_fp32 pretraining compiled_fp32",
    ),
    Part(
        "deformable",
        "Deformable attention",
        60,
        "deformable --rounds 5 --cases 4 dino",
        "deformable --height 48 --width 64 --rounds 1 --cases 4",
    ),
    Part(
        "backbone",
        "Backbone",
        110,
        f"{_BACKBONE} --modes forward --sizes 1024 --cases attention acceleration memory growth "
        "--ways gathering",
        "backbone --variant fast_itpn_nano --rounds 1 --dtypes fp32 --modes forward --sizes 64 "
        "--cases attention macs --window 4",
        own_section=True,
    ),
    Part(
        "compile",
        "Compiled backbone",
        60,
        # goes on with what the part before has just written
        f"{_BACKBONE} --resume --modes training --sizes 512 --cases compile",
        "",
        own_section=True,
    ),
    Part(
        "train",
        "Training step",
        40,
        "train --variants fast_itpn_base fast_itpn_large --sizes 1024 --steps 5 --rounds 1",
        "train --variants fast_itpn_nano --sizes 64 --batch 1 --steps 1 --rounds 1",
    ),
    Part(
        "pretrain",
        "Pre-training step",
        40,
        "pretrain --variant fast_itpn_base --batch 64 --rounds 5 --cases drop fastmim",
        "pretrain --variant fast_itpn_nano --batch 1 --rounds 1 --cases drop",
    ),
    Part(
        "runs",
        "Runs: MFU, memory, waiting for data",
        75,
        "runs",
        "runs --recipes pixel_nano --steps 2 --batch 2 --images 2 --workers 0",
    ),
)


def call(arguments: list[str], seconds: int) -> str:
    """``tools/benchmark.py`` with ``arguments``; why it has failed, or nothing. What it started ends with
    it."""
    command = [sys.executable, str(TOOLS / "benchmark.py"), *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"stopped after {seconds} s"
    if process.returncode == 0:
        return ""
    last = [line for line in errors.splitlines() if line.strip()][-1:]
    return f"exit code {process.returncode}: {''.join(last)[:200]}"


def measured(part: Part, docs: Path, twin: bool, today: str, call: Call) -> str:
    """Measure a part and keep what it has found; why there is nothing, or nothing."""
    mode = shlex.split(part.twin if twin else part.gpu)
    mode += ["--device", "cpu" if twin else "cuda"]
    seconds = _TWIN_SECONDS if twin else part.seconds
    if part.own_section:
        return call([*mode, "--docs", str(docs)], seconds)
    with tempfile.TemporaryDirectory() as folder:
        found, table = Path(folder) / "found.json", Path(folder) / "table.md"
        failure = call([*mode, "--json", str(found), "--markdown", str(table)], seconds)
        if failure:
            return failure
        content = {
            "date": today,
            "command": shlex.join(["python", "tools/benchmark.py", *mode]),
            "table": table.read_text(encoding="utf-8"),
            **json.loads(found.read_text(encoding="utf-8")),
        }
    write_json(file_of(part, docs), content)
    return ""


def file_of(part: Part, docs: Path) -> Path:
    return docs / "measured" / f"gpu_{part.name}.json"


def unmet(docs: Path) -> list[str]:
    """Comparisons of values that are not met, in words."""
    path = file_of(PARTS[0], docs)
    return [
        f"{row['what']}, {row['dtype']}: {row.get('reason') or row['difference']}, allowed {row['allowed']}"
        for row in json.loads(path.read_text(encoding="utf-8"))["rows"]
        if not row["met"]
    ]


def section(docs: Path, failures: dict[str, str]) -> str:
    """What is kept of all parts, and what has failed, as Markdown."""
    lines = ["## On a GPU", "", "`make gpu-check` wrote this section.", ""]
    for part in PARTS:
        path = file_of(part, docs)
        if path.is_file():
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            lines += [f"### {part.title}", "", f"`{content['command']}`, {content['date']}.", ""]
            lines += [content["table"].rstrip(), ""]
        if part.name in failures:
            lines += [f"{part.title}: not measured: {failures[part.name]}", ""]
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--docs", type=Path, required=True, metavar="FOLDER", help="documentation folder with benchmarks.md"
    )
    parser.add_argument(
        "--parts", nargs="+", choices=[part.name for part in PARTS], help="run only these parts"
    )
    parser.add_argument(
        "--twin", action="store_true", help="run at small size on the CPU, to test the command itself"
    )
    add_debug(parser)
    return parser.parse_args(arguments)


def check(args: argparse.Namespace, call: Call = call) -> int:
    """All parts, the section, and the exit code.

    Raises:
        UseError: there is no GPU, or a twin would write into the project's documentation.
    """
    if args.twin and args.docs.resolve() == DOCS:
        raise UseError(f"--twin: its figures mean nothing; give a copy of {args.docs} as --docs")
    if not args.twin and not torch.cuda.is_available():
        raise UseError("there is no GPU that torch can use; --twin tries the command on the CPU")
    (args.docs / "measured").mkdir(exist_ok=True)
    today, failures, began = datetime.date.today().isoformat(), dict[str, str](), time.monotonic()
    for part in PARTS:
        if (args.parts and part.name not in args.parts) or (args.twin and not part.twin):
            continue
        print(f"== {part.title}: at most {part.seconds} s", flush=True)
        failure = measured(part, args.docs, args.twin, today, call)
        if failure:
            failures[part.name] = failure
        print(f"== {part.title}: {failure or 'measured'}, {time.monotonic() - began:.0f} s", flush=True)
    if any(part.own_section and part.name in failures for part in PARTS):
        # what was measured until then is kept, but its part did not come to write it
        failure = call(["backbone", "--docs", str(args.docs), "--cases"], _WRITING_SECONDS)
        if failure:
            failures["backbone's section"] = failure
    rewrite_section(args.docs / "benchmarks.md", "gpu", section(args.docs, failures))
    compared = not args.parts or VALUES in args.parts
    wrong = [] if not compared or VALUES in failures else unmet(args.docs)
    for text in [*wrong, *(f"{name}: {reason}" for name, reason in failures.items())]:
        print(f"FAILED {text}", file=sys.stderr)
    if wrong or VALUES in failures:
        return 1
    return 3 if failures else 0


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    with errors_of_use(args.debug):
        code = check(args)
    sys.exit(code)


if __name__ == "__main__":
    main()
