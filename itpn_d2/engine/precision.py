"""Which device and which floating-point type a run uses."""

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from omegaconf import OmegaConf

logger = logging.getLogger(__name__)

# what configs have for ``auto``: OmegaConf makes a name of it that torch takes
DEVICE = "${itpn_d2.device:}"
_NAMES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def resolve_device(name: str = "auto") -> torch.device:
    """``auto`` is this process's CUDA device if there is one, else the CPU.

    Raises:
        ValueError: the machine has no such device.
    """
    if name != "auto":
        device = torch.device(name)
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:  # torch built without it asserts
            reason = str(error).partition("\n")[0]
            text = f"train.device={name}: this machine has none ({reason}); choose auto or cpu"
            raise ValueError(text) from error
        return device
    return (
        torch.device("cuda", torch.cuda.current_device())
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


OmegaConf.register_new_resolver("itpn_d2.device", lambda: str(resolve_device()), replace=True)


def bf16_is_fast(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 matrices itself."""
    if device.type == "cuda":
        return _cuda_has_bf16(device)
    if device.type == "cpu":
        return "avx512_bf16" in _cpu_flags() or "amx_bf16" in _cpu_flags()
    return False


def _cuda_has_bf16(device: torch.device) -> bool:
    """Whether the GPU has bfloat16 products; those before sm_80 only emulate them, many times slower than
    float16."""
    # torch answers for the current device, which another one may differ from
    named = device.index is not None and torch.cuda.device_count() > 1
    with torch.cuda.device(device) if named else nullcontext():
        try:
            return torch.cuda.is_bf16_supported(including_emulation=False)
        except TypeError:  # torch 2.4 counts emulation, and can't be asked not to
            return bool(torch.version.hip) or torch.cuda.get_device_capability()[0] >= 8


def _cpu_flags() -> str:
    try:
        with open("/proc/cpuinfo") as f:
            return next((line for line in f if line.startswith("flags")), "")
    except OSError:  # not Linux
        return ""


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto`` is bf16 where the hardware has it, else fp16 on CUDA, else fp32; fp16 is refused on the
    CPU.

    Raises:
        ValueError: ``name`` is unknown, or fp16 on the CPU.
    """
    if name == "auto":
        if bf16_is_fast(device):
            return torch.bfloat16
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in _NAMES:
        raise ValueError(f"train.amp.dtype={name!r}: choose auto, {', '.join(_NAMES)}")
    if name == "fp16" and device.type == "cpu":
        raise ValueError("train.amp.dtype=fp16 needs CUDA: use bf16 or fp32 on the CPU")
    return _NAMES[name]


def choose_products(
    device: torch.device,
    tf32: Literal["none", "convolutions", "all"] = "convolutions",
    benchmark: bool = False,
) -> None:
    """Choose how this process multiplies float32 numbers on a GPU until it ends; other devices are not
    affected.

    TF32 has the range of float32 and ten bits of precision. ``convolutions`` alone is torch's own choice.
    Under autocast to half precision, what is left in float32 (coordinates, costs, losses) multiplies
    matrices, and stays exact with it.

    Args:
        benchmark: cuDNN tries its algorithms out for each size of images that it has not met. That pays where
            all images have one size; where sizes vary, it costs more than it saves.
    """
    if device.type != "cuda":
        return
    torch.set_float32_matmul_precision("high" if tf32 == "all" else "highest")
    torch.backends.cudnn.allow_tf32 = tf32 != "none"
    torch.backends.cudnn.benchmark = benchmark
    logger.info(
        "Float32 products in TF32: %s; cuDNN %s its algorithms",
        {"none": "none", "convolutions": "those of convolutions", "all": "all"}[tf32],
        "benchmarks" if benchmark else "does not benchmark",
    )


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """Mixed precision by ``dtype``; float32 switches it off."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)
