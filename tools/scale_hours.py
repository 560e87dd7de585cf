"""How long published recipes take on so many GPUs: operations of a step, counted, over what GPUs compute.

    python tools/scale_hours.py
    python tools/scale_hours.py --docs docs

Operations are counted by torch where nothing is computed: products of matrices, convolutions and attention, a
multiplication and an addition being two. A step of pre-training is counted forward and backward, with its
teacher; of a detector the forward pass of one image of the largest size of the recipe is counted, and taken
three times, so that its hours are an upper bound. What GPUs compute is the peak of their data sheet times a
share of it (MFU): that of ``DOCS/measured/gpu_runs.json``, which ``make gpu-check`` writes, where the same
recipe was measured on such a GPU; else ``--mfu``, an assumption. Waiting for data and for other machines is
not in it.

``--docs`` writes the section "Hours" of ``DOCS/scale.md``.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import ImageList
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from itpn_d2.engine.flops import flop_counter, peak_tflops
from itpn_d2.errors import UseError, add_debug, errors_of_use
from pages import rewrite_section

ROOT = Path(__file__).resolve().parents[1]
IMAGENET = 1_281_167  # images of ImageNet-1K
DETECTOR_SIZE = (800, 1333)
BACKWARD = 2  # times the operations of the forward pass


@dataclass(frozen=True)
class Recipe:
    """A config whose hours are told.

    Attributes:
        measured: its name in ``gpu_runs.json``.
    """

    text: str
    config: str
    measured: str = ""


RECIPES = {
    "pixel_large": Recipe(
        "Pixel reconstruction, large", "Pretrain/pixel_mim_fast_itpn_large.py", "pixel_large"
    ),
    "distillation_large": Recipe(
        "Distillation of CLIP-L/14, large", "Pretrain/distillation_fast_itpn_large.py"
    ),
    "dino_base": Recipe("DINO, base, 12 epochs", "COCO-Detection/dino_fast_itpn_base_1x.py", "dino_base"),
}


@dataclass(frozen=True)
class Cost:
    """What a recipe asks for: operations of one image in training, and how many images there are."""

    flops: int
    images: int
    parameters: int

    def hours(self, gpus: int, tflops: float) -> float:
        """On GPUs that compute ``tflops`` each."""
        return self.flops * self.images / (gpus * tflops * 1e12) / 3600


def cost_of(cfg: Any) -> Cost:
    """Of a config, pre-training or DINO."""
    loader, pretraining = cfg.dataloader.train, "epochs" in cfg.train
    if pretraining and "teacher" in cfg.model:
        cfg.model.teacher.random = True
    model = instantiate(cfg.model)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if pretraining:
        return Cost(step_flops(model.to("meta"), loader.view), IMAGENET * cfg.train.epochs, trained)
    flops = (1 + BACKWARD) * detection_flops(model)
    return Cost(flops, cfg.train.max_iter * loader.total_batch_size, trained)


def step_flops(method: nn.Module, view: Any) -> int:
    """Of one image, forward and backward."""
    size, batch = view.get("size", 224), 2
    images = {"image": torch.zeros(batch, 3, size, size, dtype=torch.uint8, device="meta")}
    if view.get("teacher_size"):
        side = view.teacher_size
        images["teacher_image"] = torch.zeros(batch, 3, side, side, dtype=torch.uint8, device="meta")
    with flop_counter() as counter:
        losses = method.train()(images)
        sum(losses.values()).backward()
    return counter.get_total_flops() // batch


def detection_flops(model: Any) -> int:
    """Of one image, forward. Tensors are torch's fake ones of the CPU: autocast, which the decoder switches
    off, does not know the meta device."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    model.eval().requires_grad_(False)
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            held.update({name: fake.from_tensor(x) for name, x in held.items() if x is not None})
    height, width = DETECTOR_SIZE
    divisor = model.backbone.size_divisibility
    padded = [-(-side // divisor) * divisor for side in (height, width)]
    pixels = fake.from_tensor(torch.zeros(1, 3, *padded))
    images = ImageList(pixels, [(padded[0], padded[1])])
    with torch.no_grad(), flop_counter() as counter:
        model.detect(images)
    return counter.get_total_flops()


def measured_mfu(docs: Path, gpu: str) -> dict[str, float]:
    """By name of the run, as measured on such a GPU; nothing where there is no file."""
    path = docs / "measured" / "gpu_runs.json"
    if not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    if gpu not in found["machine"]:
        return {}
    return {name: row["mfu"] for name, row in found["results"].items() if row.get("mfu")}


def table(costs: dict[str, Cost], gpus: Sequence[int], gpu: str, mfu: float, known: dict[str, float]) -> str:
    """Markdown; ``known``: measured shares by name of the run.

    Raises:
        UseError: the peak of ``gpu`` is not known.
    """
    peak = peak_tflops(gpu, torch.bfloat16)
    if peak is None:
        raise UseError(f"--gpu {gpu}: its peak is not known; itpn_d2/engine/flops.py lists those that are")
    hours = " | ".join(f"hours on {count}" for count in gpus)
    lines = [
        f"| recipe | trained parameters, M | GFLOP per image | images | MFU | images/s per GPU | {hours} |",
        "|---" * (6 + len(gpus)) + "|",
    ]
    for name, cost in costs.items():
        recipe = RECIPES[name]
        share = known.get(recipe.measured, mfu)
        told = f"{share:.0%}" + ("" if recipe.measured in known else " (assumed)")
        tflops = peak * share
        spent = " | ".join(f"{cost.hours(count, tflops):.2g}" for count in gpus)
        lines.append(
            f"| {recipe.text} | {cost.parameters / 1e6:.0f} | {cost.flops / 1e9:.0f} | {cost.images:.2e} | "
            f"{told} | {tflops * 1e12 / cost.flops:.0f} | {spent} |"
        )
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--gpus", nargs="+", type=int, default=[8, 64])
    parser.add_argument("--gpu", default="H100", help="name of the GPU, as in itpn_d2/engine/flops.py")
    parser.add_argument(
        "--mfu", type=float, default=0.4, help="assumed share of the GPU's peak, 0 to 1, if none was measured"
    )
    parser.add_argument(
        "--docs", type=Path, metavar="FOLDER", help="also write the section into FOLDER/scale.md"
    )
    add_debug(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    with errors_of_use(args.debug):
        costs = {
            name: cost_of(LazyConfig.load(str(ROOT / "configs" / RECIPES[name].config)))
            for name in args.recipes
        }
        known = measured_mfu(args.docs or ROOT / "docs", args.gpu)
        text = table(costs, args.gpus, args.gpu, args.mfu, known)
        print(text)
        if args.docs:
            rewrite_section(args.docs / "scale.md", "hours", section(text, args))


def section(text: str, args: argparse.Namespace) -> str:
    return "\n".join(
        [
            "## Hours",
            "",
            "`python tools/scale_hours.py --docs docs` wrote this section.",
            "",
            f"Hours are the counted operations of a recipe (a multiplication and an addition are two) over "
            f"the peak of an {args.gpu} in half precision times the MFU. For a detector, the forward pass of "
            f"one image of {DETECTOR_SIZE[0]}x{DETECTOR_SIZE[1]} is counted three times, which is an upper "
            f"bound. Waiting for data and for other machines is not included; [the loading table]"
            f"(benchmarks.md#loading) shows how many cores are needed for this many images/s.",
            "",
            text,
        ]
    )


if __name__ == "__main__":
    main()
