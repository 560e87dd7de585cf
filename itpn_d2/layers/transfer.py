"""Copies to a device that nothing waits for."""

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``, itself if it is there. From the CPU to CUDA it goes through pinned memory: a
    copy from ordinary memory would wait until the device has done all that was asked of it before.

    Any shape and type; both stay.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
