"""``train.count_flops``: what a step computes, and what share of a GPU's peak that is."""

import re
from typing import Any

import torch
from torch.utils.flop_counter import (
    FlopCounterMode,
    flop_registry,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


# Attention on CPUs, which the counters of earlier versions of torch leave out. The formulas get shapes.
_ON_CPU = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}

# Dense products in half precision, 10^12 operations a second, from NVIDIA's data sheets.
_PEAKS = {
    r"B200": 2250.0,
    r"H100 PCIe": 756.0,
    r"H[12]00": 989.0,
    r"A100": 312.0,
    r"L40S": 362.0,
    r"L4": 121.0,
    r"A10": 125.0,
    r"RTX 4090": 165.0,
}


def flop_counter() -> FlopCounterMode:
    """Torch's counter of operations, a multiplication and an addition being two; counts attention on every
    device."""
    unknown = {op: count for op, count in _ON_CPU.items() if op not in flop_registry}
    return FlopCounterMode(display=False, custom_mapping=unknown)


def peak_tflops(name: str, dtype: torch.dtype) -> float | None:
    """The peak of a GPU by its name; None where it is not known, and for float32."""
    if dtype not in (torch.bfloat16, torch.float16):
        return None
    return next((peak for part, peak in _PEAKS.items() if re.search(rf"\b{part}\b", name)), None)


def throughput(flops: int, seconds: float, device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """``tflops``, and ``mfu`` (0 to 1) where the peak of the device is known; nothing without operations.

    Args:
        flops: operations of one process in ``seconds``, a multiplication and an addition being two.
    """
    if not flops or seconds <= 0:
        return {}
    found = {"tflops": flops / seconds / 1e12}
    peak = peak_tflops(torch.cuda.get_device_name(device), dtype) if device.type == "cuda" else None
    return found if peak is None else {**found, "mfu": found["tflops"] / peak}
