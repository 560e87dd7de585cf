"""Whether the device computes what it should: values and gradients beside those of the CPU or of PyTorch.

Both sides get the same weights, inputs and random numbers. A difference is the largest over all results,
relative to the largest of the reference. ``deformable`` compares the form that is used on the device, Triton
on CUDA, with PyTorch's by the samples; ``detector`` and ``pretraining`` are a training step on the device
beside one on the CPU, both in float32; ``compiled`` is a step whose blocks are compiled beside an eager one.
"""

import argparse
import copy
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from benchmarks.deformable import HEADS, OPERATORS, SIDES, level_shapes
from benchmarks.training import synthetic_batch
from itpn_d2 import create_model, model_zoo
from itpn_d2.engine.compiling import compile_blocks
from itpn_d2.engine.precision import autocast, resolve_device, resolve_dtype
from itpn_d2.engine.prefetch import on_device
from itpn_d2.engine.timing import machine
from itpn_d2.layers import Draws, drawing
from itpn_d2.seed import seed_step
from pretrain.masking import RandomMasking
from pretrain.methods import PixelMIM

CPU = torch.device("cpu")
Values = dict[str, Tensor]


def difference(found: Values, expected: Values) -> float:
    """Largest difference over all of the same name, each relative to the largest value expected."""
    if found.keys() != expected.keys():
        raise ValueError(f"the results have different names: {sorted(found.keys() ^ expected.keys())}")
    worst = 0.0
    for name, reference in expected.items():
        reference = reference.detach().double().cpu()
        apart = (found[name].detach().double().cpu() - reference).abs().max()
        worst = max(worst, (apart / reference.abs().max().clamp(min=1e-12)).item())
    return worst


def deformable(kind: str, device: torch.device, size: int) -> float:
    """Values and gradients of deformable attention, the form of the device beside PyTorch's in float32."""
    dtype = resolve_dtype(kind, device)
    shapes = level_shapes(size, size * 5 // 4, 4)
    generator = torch.Generator().manual_seed(0)
    cells = sum(h * w for h, w in shapes)
    value = torch.randn(2, cells, HEADS, 32, generator=generator)
    locations = torch.rand(2, 100, HEADS, 4, 4, 2, generator=generator) * 1.4 - 0.2
    weights = torch.rand(2, 100, HEADS, 4, 4, generator=generator)
    # rounded first, so that both sides have the same inputs
    given = [value.to(dtype).float(), locations, weights.to(dtype).float()]

    def run(name: str, dtype: torch.dtype) -> Values:
        leaves = [x.to(device).detach().requires_grad_() for x in given]
        out = OPERATORS[name](leaves[0].to(dtype), shapes, leaves[1], leaves[2].to(dtype))
        (out.float() * torch.linspace(-1, 1, out.shape[-1], device=device)).sum().backward()
        return {"out": out, **{f"gradient {n}": x.grad for n, x in enumerate(leaves) if x.grad is not None}}

    reference, used = SIDES[device.type]
    return difference(run(used, dtype), run(reference, torch.float32))


def trained_values(model: nn.Module, batch: Any, device: torch.device, dtype: torch.dtype) -> Values:
    """Losses and gradients of a step on ``device``."""
    model.to(device).train().zero_grad(set_to_none=True)
    positions = list(range(2))
    seed_step(0)
    with EventStorage(0), drawing(Draws(0, positions, device)):
        with autocast(device, dtype):
            losses = model(on_device(batch, device, getattr(model, "on_host", ())))
        sum(losses.values()).backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return {**{k: v.detach().clone() for k, v in losses.items()}, **gradients}


def _detector(size: int) -> tuple[nn.Module, Any]:
    """One whose examples do not depend on what it predicts: among near ties another rounding chooses
    others."""
    small = ["model.backbone.channels=[16,32,64]", "model.backbone.num_heads=2", "dataset.num_classes=3"]
    seed_step(0)
    model = model_zoo.get("Custom/retinanet_fast_itpn_nano", device="cpu", overrides=small)
    batch = [{**record, "position": n} for n, record in enumerate(synthetic_batch(2, size, 0))]
    return model, batch


def _pretraining(size: int) -> tuple[nn.Module, Any]:
    seed_step(0)
    grid = (size // 16, size // 16)
    backbone: Any = create_model("fast_itpn_nano", pyramid=True, pos_grid=grid)
    model = PixelMIM(backbone, RandomMasking(0.5), decoder_dim=64, decoder_depth=2, decoder_heads=4)
    image = torch.randint(0, 256, (2, 3, size, size), generator=torch.Generator().manual_seed(0))
    return model, {"image": image.to(torch.uint8), "position": [0, 1]}


def on_both(
    make: Callable[[int], tuple[nn.Module, Any]], kind: str, device: torch.device, size: int
) -> float:
    """A step on the device beside one on the CPU, in float32 without TF32."""
    model, batch = make(size)
    other = copy.deepcopy(model)  # a step may change more than gradients
    with exact_products():
        expected = trained_values(model, batch, CPU, torch.float32)
        return difference(trained_values(other, batch, device, torch.float32), expected)


def compiled(kind: str, device: torch.device, size: int) -> float:
    """A step of pixel reconstruction with compiled blocks beside an eager one."""
    dtype = resolve_dtype(kind, device)
    model, batch = _pretraining(size)
    with exact_products():
        expected = trained_values(model, batch, device, dtype)
        compile_blocks(model, None, "eager" if device.type == "cpu" else "inductor")
        return difference(trained_values(model, batch, device, dtype), expected)


@contextmanager
def exact_products() -> Any:
    """Float32 products in float32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


# what, in which type, and how much may differ: rounding in another order, and in half precision
CHECKS: dict[str, tuple[str, Callable[[str, torch.device, int], float], str, float]] = {
    "deformable_fp32": ("deformable attention and its gradients", deformable, "fp32", 1e-4),
    "deformable_bf16": ("deformable attention and its gradients", deformable, "bf16", 3e-2),
    "detector": (
        "training step of RetinaNet, beside the CPU's",
        lambda kind, device, size: on_both(_detector, kind, device, size),
        "fp32",
        1e-2,
    ),
    "pretraining": (
        "training step of pixel reconstruction, beside the CPU's",
        lambda kind, device, size: on_both(_pretraining, kind, device, size),
        "fp32",
        1e-3,
    ),
    "compiled_fp32": ("the same, compiled blocks beside eager ones", compiled, "fp32", 1e-3),
    "compiled_bf16": ("the same, compiled blocks beside eager ones", compiled, "bf16", 1e-1),
}


def markdown(rows: Sequence[dict[str, Any]], where: str) -> str:
    lines = [
        f"Largest differences, relative to the largest value, on {where}, torch {torch.__version__}.",
        "",
        "| what | type | difference | allowed | met |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        found = row.get("reason") or f"{row['difference']:.1e}"
        met = "yes" if row["met"] else "no"
        lines.append(f"| {row['what']} | {row['dtype']} | {found} | {row['allowed']:.0e} | {met} |")
    return "\n".join(lines) + "\n"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", nargs="+", choices=list(CHECKS), default=list(CHECKS))
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")


def run(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The table, and all that was compared; a comparison that fails is one that is not met."""
    device, rows = resolve_device(args.device), []
    for name in args.cases:
        what, check, kind, allowed = CHECKS[name]
        row: dict[str, Any] = {"case": name, "what": what, "dtype": kind, "allowed": allowed}
        try:
            found = check(kind, device, args.size)
            row.update(difference=found, met=found <= allowed)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:160].replace("|", "/")
            row.update(reason=reason, met=False)
        rows.append(row)
        print(f"{name}: {row.get('difference', row.get('reason'))}", flush=True)
    where = machine(device)
    return markdown(rows, where), {"machine": where, "torch": torch.__version__, "rows": rows}
