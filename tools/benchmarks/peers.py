"""Our backbone beside those that detectors often have, each with its pyramid: seconds and peak memory.

All networks of an image size take turns in one process, on the same images. Peak memory is what the first
step of a network adds to the weights of all of them, gradients included. ``forward`` runs without gradients,
with weights in the given type; ``training`` is forward under autocast and backward, without an optimizer. All
weights are random. ViT-B has no windows, ViTDet's ViT-B has windows of 14 patches and relative positions
(timm's ``samvit_base_patch16`` without its neck), and SAM's image encoder is that network with its neck: it
has one map and no pyramid, since SAM has none.

``--docs docs`` keeps the figures in docs/measured/peers.json and writes the section of docs/benchmarks.md.
With it, or with ``--json``, a second call goes on where the first one was stopped.
"""

import argparse
import json
import shlex
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from torch import Tensor, nn

from benchmarks.cases import INPUTS, step_of, total
from benchmarks.clock import MeasurementError, own_process, peak_mib
from benchmarks.docs import described
from benchmarks.models import ACCELERATED, BackboneSetting, Side, Size, build, inputs
from itpn_d2.backbone import SimplePyramid, TimmBackbone
from itpn_d2.engine import keep_freed_memory
from itpn_d2.engine.timing import Step, machine, timed
from itpn_d2.files import write_json
from pages import rewrite_section

CHANNELS = 256  # of every level of every pyramid
MODES = {"forward": False, "training": True}
DEFAULT_SIZES = (Size(512, 512), Size(800, 1333), Size(1024, 1024))
Builder = Callable[[Size, BackboneSetting], nn.Module]


class Maps(nn.Module):
    """A Detectron2 backbone whose result is a tuple of its maps."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(image).values())


class ImageEncoder(nn.Module):
    """SAM's ViT-B with its neck: one map of stride 16."""

    def __init__(self, size: Size):
        super().__init__()
        self.network = timm.create_model("samvit_base_patch16", num_classes=0, img_size=tuple(size.padded))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self.network.forward_features(image),)


def _ours(way: str) -> Builder:
    return lambda size, setting: build(Side(way), size, setting)


def _network(name: str, size: Size, names: Sequence[str] | None = None) -> TimmBackbone:
    sized = {} if name.startswith("convnext") else {"img_size": tuple(size.padded)}
    return TimmBackbone(name, names=names, options=sized)


def _fpn(name: str) -> Builder:
    """Detectron2's FPN over a network with stages."""
    levels = ["res2", "res3", "res4", "res5"]
    return lambda size, _: Maps(FPN(_network(name, size), levels, CHANNELS, top_block=LastLevelMaxPool()))


def _simple(name: str) -> Builder:
    """ViTDet's pyramid over a plain ViT."""
    return lambda size, _: Maps(
        SimplePyramid(_network(name, size, ["last"]), "last", CHANNELS, top_block=LastLevelMaxPool())
    )


NETWORKS: dict[str, Builder] = {
    "ours, dense": _ours("dense"),
    **{f"ours, {way}": _ours(way) for way in ACCELERATED},
    "ViT-B": _simple("vit_base_patch16_224"),
    "ViTDet ViT-B": _simple("samvit_base_patch16"),
    "SAM ViT-B": lambda size, _: ImageEncoder(size),
    "Swin-B": _fpn("swin_base_patch4_window7_224"),
    "Hiera-B": _fpn("hiera_base_224"),
    "ConvNeXt-B": _fpn("convnext_base"),
}


def step_for(name: str, size: Size, training: bool, setting: BackboneSetting) -> Step:
    """A forward pass or a training step of a network; gradients are gone when it ends."""
    if setting.kept_memory:
        keep_freed_memory()
    device, dtype = setting.place()
    model = NETWORKS[name](size, setting).to(device).train(training)
    images = inputs(size, setting)
    if training:
        step = step_of(model, lambda number: total(model(images[number])), setting)

        def train(number: int) -> None:
            step(number)
            model.zero_grad(set_to_none=True)  # the networks of a process share its memory

        return train
    model, images = model.to(dtype), [image.to(dtype) for image in images]

    def forward(number: int) -> None:
        with torch.no_grad():
            model(images[number % INPUTS])

    return forward


def _reason(error: Exception) -> dict[str, Any]:
    return {"reason": " ".join(f"{type(error).__name__}: {error}".split())[:160].replace("|", "/")}


def measure(
    names: Sequence[str], size: Size, training: bool, setting: BackboneSetting
) -> dict[str, dict[str, Any]]:
    """Seconds of all networks by name, round by round, and the peak memory of their first steps in MiB; each
    round begins with the next network."""
    device, _ = setting.place()
    steps: dict[str, Step] = {}
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        try:
            steps[name] = step_for(name, size, training, setting)
        except Exception as error:  # the network can't take the size
            found[name] = _reason(error)
    for name, step in list(steps.items()):
        held = torch.cuda.memory_allocated(device) / 2**20 if device.type == "cuda" else 0.0
        try:
            found[name] = {"seconds": [], "peak": peak_mib(step, 1, device) - held}
        except Exception as error:  # too little memory
            del steps[name]
            found[name] = _reason(error)
    order = list(steps)
    for number in range(1, setting.rounds + 1):
        order = [*order[1:], *order[:1]]
        for name in order:
            found[name]["seconds"].append(timed(partial(steps[name], number), device))
    return found


def _parameters(name: str, setting: BackboneSetting) -> float:
    with torch.device("meta"):
        model = NETWORKS[name](Size(512, 512), setting)
    return sum(p.numel() for p in model.parameters()) / 1e6


def _cell(found: Mapping[str, Any], measure: str) -> str:
    if "reason" in found:
        return f"not measured: {found['reason']}"
    if measure not in found:
        return ""
    if measure == "peak":
        return f"{found['peak']:.0f}"
    seconds = found["seconds"]
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def table(found: Mapping[str, Any]) -> str:
    """Markdown: for each type and measure a table with a row each network and a column each size and mode."""
    setting = found["setting"]
    lines = [
        f"{setting['variant']} with its pyramid beside other networks with theirs, {CHANNELS} channels, "
        f"batch {setting['batch']}, on {found['machine']}, torch {found['torch']}. Gathering has windows of "
        f"{setting['window']}x{setting['window']} and {setting['tokens']} tokens, and migration keeps "
        f"{setting['keep']} three times. Seconds are medians of {setting['rounds']} rounds in which all "
        "networks took turns, with the smallest and the largest in parentheses. Memory is what a step adds "
        "to the weights, gradients included.",
        "",
        *(f"    {command}" for command in found["commands"]),
        "",
    ]
    for dtype, sizes in found["results"].items():
        columns = [(size, mode) for size, modes in sizes.items() for mode in modes]
        for measured, unit in (("seconds", "seconds"), ("peak", "peak memory, MiB")):
            heads = " | ".join(f"{size}, {mode}" for size, mode in columns)
            lines += [f"| {unit}, {dtype} | parameters, M | {heads} |", "|---" * (len(columns) + 2) + "|"]
            for name in NETWORKS:
                rows = [sizes[size][mode].get(name, {}) for size, mode in columns]
                if any(rows):
                    cells = " | ".join(_cell(row, measured) for row in rows)
                    lines.append(f"| {name} | {found['parameters'][name]:.0f} | {cells} |")
            lines.append("")
    return "\n".join(lines)


def measured_file(docs: Path) -> Path:
    """Where the documentation keeps what was measured."""
    return docs / "measured" / "peers.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    default = BackboneSetting
    parser.add_argument("--variant", default=default.variant, help="our backbone")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--sizes", nargs="+", type=Size.parse, default=DEFAULT_SIZES, metavar="PIXELS")
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument("--dtypes", nargs="+", choices=("fp32", "bf16", "fp16"), default=["fp32"])
    parser.add_argument("--batch", type=int, default=default.batch)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: torch decides")
    parser.add_argument("--kept-memory", action="store_true", help="on a CPU: freed memory is kept")
    parser.add_argument(
        "--docs", type=Path, metavar="FOLDER", help="documentation folder whose table is updated"
    )


def _earlier(path: Path | None, head: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier call has measured with the same setting on the same machine, and its commands."""
    if path is None or not path.is_file():
        return {"commands": [], "results": {}}
    before = json.loads(path.read_text())
    if any(before.get(name) != head[name] for name in ("machine", "torch", "setting")):
        return {"commands": [], "results": {}}
    return {"commands": before["commands"], "results": before["results"]}


def run(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The table, and all that was measured."""
    if args.threads:
        torch.set_num_threads(args.threads)
    names = ("variant", "batch", "rounds", "device", "kept_memory")
    setting = BackboneSetting(**{name: getattr(args, name) for name in names})
    path = measured_file(args.docs) if args.docs else args.json
    head = {
        "machine": machine(setting.place()[0]),
        "torch": torch.__version__,
        "setting": described(setting),
        "parameters": {name: _parameters(name, setting) for name in NETWORKS},
    }
    earlier = _earlier(path, head)
    commands = list(dict.fromkeys([*earlier["commands"], shlex.join(["python", *sys.argv])]))
    found: dict[str, Any] = {**head, "commands": commands, "results": earlier["results"]}

    for dtype in args.dtypes:
        typed = replace(setting, dtype=dtype)
        for size in args.sizes:
            for mode in args.modes:
                rows = found["results"].setdefault(dtype, {}).setdefault(str(size), {}).setdefault(mode, {})
                if all("seconds" in rows.get(name, {}) for name in args.networks):
                    continue  # measured before
                try:  # all networks anew: only what was timed in one process can be compared
                    rows.update(own_process(measure, args.networks, size, MODES[mode], typed))
                except MeasurementError as error:
                    rows.update({name: _reason(error) for name in args.networks})
                if path is not None:
                    write_json(path, found)
                for name in args.networks:
                    print(f"{dtype} {size} {mode} {name}: {_cell(rows[name], 'seconds')}", flush=True)
    text = table(found)
    if args.docs:
        rewrite_section(args.docs / "benchmarks.md", "peers", f"## Beside other backbones\n\n{text}")
    return text, found
