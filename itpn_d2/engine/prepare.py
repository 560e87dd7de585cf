"""The steps that every run begins and ends with."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.events import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig
from timm.layers import BatchNormAct2d, SyncBatchNormAct
from torch import nn

from ..addresses import MaskAddresses
from ..errors import ConfigError, OutputError, config_errors
from ..files import remove_partials
from .allocator import keep_freed_memory
from .lock import FolderLock
from .precision import choose_products, resolve_device, resolve_dtype

logger = logging.getLogger(__name__)


def prepare(cfg: DictConfig) -> tuple[FolderLock, torch.device, torch.dtype]:
    """Make ``train.output_dir`` and claim it, send the logs to its ``log.txt``, and choose device and
    precision.

    Raises:
        ConfigError: the folder can't be made, another run writes there, or there is no such device or type.
    """
    output_dir = Path(cfg.train.output_dir)
    lock = FolderLock(output_dir, wanted=comm.is_main_process())
    if comm.is_main_process():
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as error:
            raise ConfigError(f"train.output_dir={output_dir}: {error.strerror}") from error
        remove_partials(output_dir)
    comm.synchronize()
    for name in ("itpn_d2", "pretrain", "detectron2", "fvcore"):
        with _written_by_others(output_dir):
            log = setup_logger(str(output_dir), distributed_rank=comm.get_rank(), name=name)
        for handler in log.handlers:
            handler.addFilter(MaskAddresses())
    logger.info("Environment:\n%s", collect_env_info())
    with config_errors():
        device = resolve_device(cfg.train.device)
        off = cfg.train.amp.get("enabled") is False
        dtype = resolve_dtype("fp32" if off else cfg.train.amp.dtype, device)
    if device.type == "cpu" and cfg.train.get("keep_freed_memory", True):
        keep_freed_memory()
    # configs of earlier versions have neither
    choose_products(device, cfg.train.get("tf32", "convolutions"), cfg.train.get("cudnn_benchmark", False))
    kind, count = str(dtype).removeprefix("torch."), comm.get_world_size()
    logger.info("%s, %s, %d process(es), output in %s", device, kind, count, output_dir)
    return lock, device, dtype


def without_sync_bn(model: nn.Module) -> nn.Module:
    """The model for a device that knows no SyncBN: with a batch norm of each process in its place."""
    if any(isinstance(m, nn.SyncBatchNorm) for m in model.modules()):
        logger.info("SyncBN needs CUDA; per-process BatchNorm is used instead")
        return _replaced(model)
    return model


def _replaced(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.SyncBatchNorm):
        sizes = module.num_features, module.eps, module.momentum, module.affine
        if isinstance(module, SyncBatchNormAct):  # timm's, with the activation inside
            plain: nn.Module = BatchNormAct2d(*sizes)
            plain.act, plain.drop = module.act, module.drop
        else:
            plain = nn.BatchNorm2d(*sizes)
        plain.load_state_dict(module.state_dict())
        return plain
    for name, child in module.named_children():
        setattr(module, name, _replaced(child))
    return module


def writers(output_dir: Path, max_iter: int) -> list[EventWriter]:
    """Plain lines for the log, ``metrics.json``, and TensorBoard.

    Raises:
        OutputError: one of the files can't be written.
    """
    with _written_by_others(output_dir):
        found: list[Any] = [
            CommonMetricPrinter(max_iter),
            JSONWriter(str(output_dir / "metrics.json")),
            TensorboardXWriter(str(output_dir)),
        ]
    return found


@contextmanager
def _written_by_others(folder: Path) -> Iterator[None]:
    """Write errors in files that Detectron2 opens become user errors, as for files that this project
    writes."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{error.filename or folder}: can't be written ({error.strerror})") from error


def say_where(output_dir: Path) -> None:
    """Print the paths of the files that a run has written, in the main process."""
    results = (
        "results.json",
        "predictions.png",
        "exits.png",
        "curves.png",
        "report.html",
        "broken_images.txt",
    )
    for name in (*results, "model_best.pth", "model_final.pth"):
        path = output_dir / name
        if comm.is_main_process() and path.is_file():
            print(f"{path.stem}: {path.resolve()}")
