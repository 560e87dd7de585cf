"""Kill runs, send them signals, feed commands with what is broken, and count what goes wrong.

    python tools/campaign.py --minutes 40 --docs docs        # kills, signals and inputs, the page written
    python tools/campaign.py kills --kills 200
    python tools/campaign.py inputs --inputs 1000 --seed 7   # the same seed makes the same inputs
    python tools/campaign.py --short                         # minutes: what the tests run
    python tools/campaign.py --join A.json B.json --docs docs   # parts that were run one by one

Runs are small ones on a CPU. Kills come at random moments and while a file is written; the run is resumed,
and its weights are compared bit for bit with those of an undisturbed run. Signals go to the whole process
group. Inputs come from seeded generators; each is used in a process of its own, which may end with the input
accepted or with a user error, not with a traceback, a crash, a hang, or code of the input executed. Needs
fork (Linux, macOS). The exit status is 1 where a fault was found.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from itpn_d2.errors import ConfigError, add_debug, errors_of_use
from itpn_d2.files import write_json
from pages import rewrite_section
from reliability import kills, report, signals
from reliability.feeding import feed

PARTS = ("kills", "signals", "inputs")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    p.add_argument("--kills", type=int, default=200, help="number of runs to kill")
    p.add_argument("--rounds", type=int, default=2, help="number of rounds of 12 signals each")
    p.add_argument("--inputs", type=int, default=1000, help="number of inputs to try")
    p.add_argument("--minutes", type=float, default=60, help="minutes after which nothing new is started")
    p.add_argument("--short", action="store_true", help="short campaign: 4 kills, no signals, 22 inputs")
    p.add_argument("--seed", type=int, default=0, help="seed of the random generators")
    p.add_argument("--json", type=Path, metavar="OUT", help="write all results to this file")
    p.add_argument(
        "--join",
        type=Path,
        nargs="+",
        default=[],
        metavar="JSON",
        help="run nothing, but add up the results in files that --json wrote",
    )
    p.add_argument(
        "--docs", type=Path, metavar="FOLDER", help="also write the section into FOLDER/reliability.md"
    )
    add_debug(p)
    found = p.parse_args(arguments)
    if unknown := set(found.parts) - set(PARTS):
        p.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    return found


def run(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What was counted, by part; faults are printed as they are found."""
    until = time.monotonic() + 60 * args.minutes
    parts = args.parts or PARTS
    found: dict[str, Any] = {"seed": args.seed, "torch": torch.__version__}
    if "kills" in parts:
        (folder / "kills").mkdir()
        wanted = 4 if args.short else args.kills
        found["kills"] = kills.campaign(folder / "kills", args.seed, wanted, until)
    if "signals" in parts and not args.short:
        (folder / "signals").mkdir()
        found["signals"] = signals.campaign(folder / "signals", args.seed, args.rounds)
    if "inputs" in parts:
        found["inputs"] = feed(folder / "inputs", args.seed, 22 if args.short else args.inputs, until)
    return found


def joined(files: list[Path]) -> dict[str, Any]:
    """The sums of several campaigns.

    Raises:
        ConfigError: a file is not what ``--json`` writes.
    """
    found: dict[str, Any] = {}
    for file in files:
        try:
            one = json.loads(file.read_text(encoding="utf-8"))
            seed, version = one.pop("seed"), one.pop("torch")
            parts = {part: _counted(value) for part, value in one.items()}
        except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
            raise ConfigError(f"--join {file}: this file was not written by --json ({error})") from error
        seeds = f"{found['seed']}, {seed}" if found else f"{seed}"
        versions = sorted({*found.get("torch", "").split(", "), version} - {""})
        found = {**_sum(found, parts), "seed": seeds, "torch": ", ".join(versions)}
    return found


def _counted(value: Any) -> Any:
    if all(isinstance(v, int) for v in value.values()):
        return Counter(value)
    return {k: _counted(v) for k, v in value.items()}


def _sum(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    found = dict(one)
    for key, value in other.items():
        if key not in found:
            found[key] = value
        else:
            found[key] = found[key] + value if isinstance(value, Counter) else _sum(found[key], value)
    return found


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    torch.set_num_threads(1)  # forks of a process with more threads would wait for those that they lack
    logging.getLogger().setLevel(logging.ERROR)
    with errors_of_use(args.debug), tempfile.TemporaryDirectory(prefix="campaign_") as folder:
        found = joined(args.join) if args.join else run(args, Path(folder))
        text = report.markdown(found)
        print(text)
        if args.json:
            write_json(args.json, {k: _plain(v) for k, v in found.items()})
        if args.docs:
            rewrite_section(args.docs / "reliability.md", "campaign", text)
    return int(report.faults(found) > 0)


def _plain(value: Any) -> Any:
    if isinstance(value, Counter):
        return dict(value)
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, dict) else value


if __name__ == "__main__":
    sys.exit(main())
