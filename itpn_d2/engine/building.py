"""The model of a run; of one that is going to be sharded, values in the first process only.

Every process would otherwise fill the memory of a whole model with values that the first one's replace. The
others build it on torch's meta device, where tensors have shapes and nothing else, and
:func:`.parallel.shard` gives them their values part by part.
"""

import logging
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import Tensor, nn

from ..errors import UseError
from ..lazy.build import build
from .prepare import without_sync_bn

logger = logging.getLogger(__name__)
_TORCH = Path(torch.__file__).parent


def build_model(cfg: DictConfig, device: torch.device, to_train: bool = True) -> nn.Module:
    """``cfg.model`` on its device; or on the meta device, where its values are going to be another process's.

    Args:
        to_train: :func:`.parallel.distribute` is going to be called.
    """

    def built() -> nn.Module:
        model = build(cfg.model)
        return model if device.type == "cuda" else without_sync_bn(model)

    if to_train and cfg.train.parallel != "ddp" and not comm.is_main_process():
        model = _without_values(built)
        if model is not None:
            return model
    return built().to(device)


def _without_values(built: Callable[[], nn.Module]) -> nn.Module | None:
    """The model on the meta device; None where it can't be built there."""
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "for .*: copying from a non-meta parameter")
            model = built()
        odd = next(_loose(model), None)
    except Exception as error:  # what is wrong with the config, the ordinary way says
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        frames = traceback.extract_tb(cause.__traceback__)
        frame = next((f for f in reversed(frames) if _TORCH not in Path(f.filename).parents), frames[-1])
        text = " ".join(f"{type(cause).__name__}: {cause}".split())[:200]
        reason = f"{frame.name} in {Path(frame.filename).name}:{frame.lineno}: {text}"
    else:
        if odd is None:
            return model
        reason = f"{odd} is a tensor that is neither parameter nor buffer"
    logger.info("Each process builds the whole model, since it can't be built without values (%s)", reason)
    return None


def _loose(model: nn.Module) -> Iterator[str]:
    """Tensors that modules keep for themselves: nobody would give them values."""
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            parts = value if isinstance(value, list | tuple) else [value]
            if any(isinstance(part, Tensor) and part.is_meta for part in parts):
                yield f"{name}.{key}".lstrip(".")


def in_the_main_process(action: Callable[[], None]) -> None:
    """``action()`` in the process that has the values; collective.

    Raises:
        UseError: the main process's, in all of them.
        RuntimeError: it failed with another exception, which it raises itself.
    """
    error: Exception | None = None
    if comm.is_main_process():
        try:
            action()
        except Exception as raised:
            error = raised
    told = comm.all_gather(None if error is None else (isinstance(error, UseError), str(error)))[0]
    if error is not None:
        raise error
    if told is not None:
        of_use, message = told
        raise (UseError if of_use else RuntimeError)(message)
