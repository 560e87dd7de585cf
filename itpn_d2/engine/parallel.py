"""One model in several processes: copies whose gradients are averaged (DDP), or shards of one (FSDP2)."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from detectron2.utils import comm
from omegaconf import DictConfig
from timm.models.vision_transformer import Block as TimmBlock
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils import swap_tensors

from ..backbone.checkpointing import Block
from ..errors import ConfigError
from ..layers.position import PositionCache
from ..solver import WeightAverage

logger = logging.getLogger(__name__)


def distribute(
    model: nn.Module,
    cfg: DictConfig,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    average: WeightAverage | None = None,
) -> nn.Module:
    """The model for several processes, as ``train.parallel`` says; itself in one process.

    By ``ddp`` it is wrapped. By ``fsdp`` and ``hsdp`` it is sharded in place, and its average with it, before
    an optimizer takes its parameters; all processes start from the weights of the first.

    Raises:
        ConfigError: the processes can't be split into groups of ``train.fsdp.shards``, or the run is in fp16.
    """
    if comm.get_world_size() == 1:
        return model
    if cfg.train.parallel == "ddp":
        return _wrapped(model, cfg, device)
    if dtype == torch.float16:
        raise ConfigError(
            f"train.parallel={cfg.train.parallel} with train.amp.dtype=fp16: shards are trained in bf16 or "
            f"fp32; set train.amp.dtype, or train.parallel=ddp"
        )
    mesh = _mesh(cfg, device)
    shard(model, mesh)
    if average is not None:
        shard(average.module, mesh)
    return model


def _wrapped(model: nn.Module, cfg: DictConfig, device: torch.device) -> nn.Module:
    settings = cfg.train.ddp
    buckets = {} if settings.bucket_cap_mb is None else {"bucket_cap_mb": settings.bucket_cap_mb}
    wrapped = DistributedDataParallel(
        model,
        broadcast_buffers=False,
        device_ids=[device.index] if device.type == "cuda" else None,
        find_unused_parameters=settings.find_unused_parameters,
        gradient_as_bucket_view=settings.gradient_as_bucket_view,
        static_graph=settings.static_graph,
        **buckets,
    )
    if settings.compress == "bf16":
        wrapped.register_comm_hook(None, bf16_compress_hook)
    return wrapped


def _mesh(cfg: DictConfig, device: torch.device) -> DeviceMesh:
    """All processes in one row; for ``hsdp`` rows of ``train.fsdp.shards``, by default those of a machine."""
    world = comm.get_world_size()
    if cfg.train.parallel == "fsdp":
        return init_device_mesh(device.type, (world,), mesh_dim_names=("shard",))
    shards = cfg.train.fsdp.shards or comm.get_local_size()
    if world % shards:
        raise ConfigError(
            f"train.fsdp.shards={shards}: {world} processes can't be divided into groups of this size"
        )
    return init_device_mesh(device.type, (world // shards, shards), mesh_dim_names=("replicate", "shard"))


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shard ``model`` over the last dimension of ``mesh``, in place: each block of a transformer by itself,
    which gathers its weights as it is used, and all the rest together.

    Weights are gathered, and gradients summed, in float32; autocast casts as it does elsewhere. Norms in
    bfloat16, which FSDP2's own casting of a block would make, are something else.

    All processes get the values of the first, part by part: the others need none before (meta tensors), and
    hold no more of the whole model than a part.
    """
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, PositionCache):  # it can't tell what is gathered from what was before
                value.stop()
    policy = MixedPrecisionPolicy(cast_forward_inputs=False)
    blocks = [m for m in model.modules() if isinstance(m, Block | TimmBlock)]
    for block in blocks:
        _take_values(block, mesh)
        fully_shard(block, mesh=mesh, mp_policy=policy)
    _take_values(model, mesh)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    logger.info("%d blocks and the rest of the model are sharded over %s", len(blocks), mesh)


def _take_values(part: nn.Module, mesh: DeviceMesh) -> None:
    """Give the tensors of a part that are not sharded yet the first process's values."""
    for tensor in [*part.parameters(), *part.buffers()]:
        if isinstance(tensor, DTensor):
            continue
        if tensor.is_meta:
            empty = torch.empty_like(tensor, device=mesh.device_type)
            is_parameter = isinstance(tensor, nn.Parameter)
            # in place: whoever shares the tensor has the values, too
            swap_tensors(tensor, nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty)
        torch.distributed.broadcast(tensor.data, 0)


def gradients_stay_local(model: nn.Module) -> AbstractContextManager:
    """Within the block a backward pass sends no gradients: one of a later micro-batch does."""
    if isinstance(model, DistributedDataParallel):
        return model.no_sync()
    return _without_sync(model) if isinstance(model, FSDPModule) else nullcontext()


@contextmanager
def _without_sync(model: FSDPModule) -> Iterator[None]:
    model.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)


@contextmanager
def gathered(trainer: Any) -> Iterator[None]:
    """Within the block the trainer's model and its average are whole in each process, which may run them as
    often as it likes: processes evaluate different numbers of images, and the main one draws alone.

    All processes enter and leave together. What is done to the weights within is lost.
    """
    average = getattr(trainer, "average", None)
    models = [getattr(trainer, "model", None), None if average is None else average.module]
    parts = [m for model in models if model is not None for m in model.modules() if isinstance(m, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(True, recurse=False)
