"""Compare our models with stored outputs of the reference ones.

    python tools/check_parity.py FIXTURE.safetensors [--strict]

The sidecar FIXTURE.json says everything: its ``build`` block gives sizes, depths and variants, and names
inputs and outputs; its ``tensors`` give the tolerance of each output. The weights go through the checkpoint
key maps. Exit status: 0 all compared outputs are within tolerance; 1 one is not (or, with --strict, one could
not be compared); 2 the fixture can't be used.
"""

import argparse
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from itpn_d2.errors import CheckpointError, UseError, add_debug, errors_of_use
from parity import backbones, criteria, detectors, fastmim, pretraining
from parity.backbones import Outputs, Unsupported


def runner(build: dict[str, Any], case: dict[str, Any] | None = None) -> ModuleType:
    """The module whose ``run_case`` and ``run_check`` know this kind of fixture, or this case of it."""
    if build["task"] in criteria.TASKS or (case and criteria.makes_results(case)):
        return criteria
    if build["family"] in fastmim.FAMILIES:
        return fastmim
    if build["family"] in detectors.FAMILIES:
        return detectors
    return pretraining if build["task"] in pretraining.TASKS else backbones


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fixture", type=Path)
    parser.add_argument(
        "--strict", action="store_true", help="treat outputs that can't be compared as failures"
    )
    add_debug(parser)
    args = parser.parse_args(arguments)
    with errors_of_use(args.debug):
        sidecar, tensors = read(args.fixture)
        try:
            return compare(sidecar, tensors, args.strict)
        except (Unsupported, CheckpointError, KeyError) as error:
            raise UseError(f"{args.fixture}: can't be checked: {type(error).__name__}: {error}") from error


def read(fixture: Path) -> tuple[dict[str, Any], Outputs]:
    """The sidecar and the tensors of a fixture.

    Raises:
        UseError: one of its two files is missing or can't be read.
    """
    sidecar = fixture.with_suffix(".json")
    for path in (fixture, sidecar):
        if not path.is_file():
            raise UseError(f"{path}: no such file; a fixture is a pair NAME.safetensors, NAME.json")
    try:
        return json.loads(sidecar.read_text(encoding="utf-8")), load_file(str(fixture))
    except (ValueError, SafetensorError) as error:
        raise UseError(f"{fixture}: it can't be read: {error}") from error


def distance(computed: Tensor, expected: Tensor, entry: dict[str, Any]) -> tuple[float, float, str]:
    """How far apart two tensors are, how far they may be, and in what: the largest difference, or the share
    of entries that differ. NaN where the shapes do."""
    shared = "share_atol" in entry
    limit, what = (entry["share_atol"], "share") if shared else (entry["atol"], "atol")
    if computed.shape != expected.shape:
        return float("nan"), limit, what
    if not expected.numel():
        return 0.0, limit, what
    apart = (computed.double() - expected.double()).abs()
    return (apart > entry["atol"]).double().mean().item() if shared else apart.max().item(), limit, what


def compare(sidecar: dict[str, Any], tensors: Outputs, strict: bool) -> int:
    build, entries = sidecar["build"], sidecar["tensors"]
    compared, failed, uncovered = 0, 0, 0
    ours = runner(build)

    def judge(key: str, computed: Tensor | None) -> None:
        nonlocal compared, failed, uncovered
        if computed is None:
            uncovered += 1
            print(f"{key:50} {'not compared':>12}")
            return
        worst, limit, what = distance(computed, tensors[key], entries[key])
        good = worst <= limit
        compared, failed = compared + 1, failed + (not good)
        print(f"{key:50} {worst:12.3e} {what} {limit:.1e} {'ok' if good else 'FAILED'}")

    for variant in build["variants"].values():
        for case in variant["cases"]:
            found = runner(build, case).run_case(build, variant, case, tensors)
            for name in case["outputs"]:
                judge(case["prefix"] + name, found.get(name))
    for check in build["checks"] if "checks" in build else sidecar.get("checks", []):
        judge(check["tensor"], ours.run_check(check, tensors, build))
    print(
        f"{compared} compared, {failed} above tolerance, {uncovered} not compared (they need another model)"
    )
    return int(failed > 0 or compared == 0 or (strict and uncovered > 0))


if __name__ == "__main__":
    torch.manual_seed(0)
    sys.exit(main())
