"""The training steps that the pre-training benchmark compares, built from configs/Pretrain."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import LazyCall, LazyConfig, instantiate
from torch import Tensor, nn

from itpn_d2.engine.precision import autocast, resolve_device, resolve_dtype
from itpn_d2.engine.timing import Step
from itpn_d2.seed import seed_step
from pretrain.encoders import encode_visible, visible_patches
from pretrain.masking import RandomMasking
from pretrain.methods import FastMIM, FeatureDistillation, PixelMIM
from pretrain.targets import Pixels

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "Pretrain"
INPUTS = 4  # batches that rounds take in turn
TEACHER_DIM = 768  # width of the random targets of distillation


@dataclass(frozen=True)
class Setting:
    """What is measured, and how.

    Attributes:
        rounds: times that each side of a comparison is timed.
        dtype: auto, bf16, fp16 or fp32, as ``train.amp.dtype``.
        backend: of ``torch.compile``.
    """

    variant: str = "fast_itpn_base"
    batch: int = 8
    rounds: int = 5
    device: str = "auto"
    dtype: str = "auto"
    backend: str = "inductor"

    def place(self) -> tuple[torch.device, torch.dtype]:
        device = resolve_device(self.device)
        return device, resolve_dtype(self.dtype, device)


def images(setting: Setting, size: int, seed: int = 0) -> list[Tensor]:
    """:data:`INPUTS` batches ``(B, 3, size, size)`` of random uint8 pixels."""
    generator = torch.Generator().manual_seed(seed)
    shape = (setting.batch, 3, size, size)
    device, _ = setting.place()
    return [
        torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8).to(device) for _ in range(INPUTS)
    ]


def step_of(model: nn.Module, loss: Callable[[int], Tensor], setting: Setting) -> Step:
    """Forward under autocast and backward; the optimizer's step, the same on both sides, is left out.

    Args:
        loss: the number of an input to a scalar.
    """
    device, dtype = setting.place()

    def step(number: int) -> None:
        model.zero_grad(set_to_none=True)
        with autocast(device, dtype):
            value = loss(number % INPUTS)
        value.backward()

    return step


def total(tensors: tuple[Tensor, ...]) -> Tensor:
    """Sum of all values: a loss that costs nothing."""
    return torch.stack([x.float().sum() for x in tensors]).sum()


def pixel_mim(setting: Setting, decoder: bool) -> tuple[Step, Step]:
    """A step at 224 pixels that drops three quarters of the patches, and one that drops none.

    Args:
        decoder: with fusion and decoder; else the trunk and the pyramid alone.
    """
    cfg = LazyConfig.load(str(CONFIGS / "pixel_mim_fast_itpn_base.py")).model
    cfg.backbone.name = setting.variant
    device, _ = setting.place()
    seed_step(0)
    method: PixelMIM = instantiate(cfg).to(device).train()
    pixels = [method.normalise(x) for x in images(setting, 224)]

    def side(ratio: float) -> Step:
        visible = [visible_patches(RandomMasking(ratio)(len(x), (14, 14))).to(device) for x in pixels]

        def loss(number: int) -> Tensor:
            if decoder:
                return total((method.predict_tokens(pixels[number], visible[number]),))
            return total(encode_visible(method.backbone, pixels[number], visible[number]).levels)

        return step_of(method, loss, setting)

    return side(0.75), side(0.0)


def fastmim(setting: Setting, target: str) -> tuple[FastMIM, list[Tensor], Step]:
    """FastMIM with its uint8 inputs and its step: ``hog`` at 128 pixels, or ``pixels`` at 224."""
    cfg = LazyConfig.load(str(CONFIGS / "fastmim_hog_fast_itpn_base.py")).model
    cfg.encoder.backbone.name = setting.variant
    size = 128
    if target == "pixels":
        size, cfg.target = 224, LazyCall(Pixels)()
        cfg.encoder.backbone.pos_grid = (size // 16, size // 16)
    device, _ = setting.place()
    seed_step(0)
    method: FastMIM = instantiate(cfg).to(device).train()
    batches = images(setting, size)
    step = step_of(method, lambda n: method({"image": batches[n]})[f"loss_{target}"], setting)
    return method, batches, step


def distillation(setting: Setting) -> tuple[FeatureDistillation, list[dict[str, Any]]]:
    """Feature distillation with batches that bring their masks and random targets, so that no teacher runs.

    Stochastic depth is off: its random numbers would be generated differently in compiled code.
    """
    cfg = LazyConfig.load(str(CONFIGS / "distillation_fast_itpn_base.py")).model
    cfg.backbone.update(name=setting.variant, drop_path=0.0)
    cfg.update(teacher=None, teacher_dim=TEACHER_DIM)
    device, _ = setting.place()
    seed_step(0)
    method: FeatureDistillation = instantiate(cfg).to(device).train()
    batches = [
        {
            "image": image,
            "mask": method.masking(setting.batch, (14, 14), None, device),
            "target": torch.randn(setting.batch, 14 * 14, TEACHER_DIM).to(device),
        }
        for image in images(setting, 224)
    ]
    return method, batches
