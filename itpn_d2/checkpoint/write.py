"""Writing checkpoint files: written completely or not at all, with plain values and a digest."""

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from safetensors.torch import save_file
from torch import Tensor

from ..files import written_whole
from . import digest
from .safe_load import METADATA


def atomic_save(content: Any, path: str | Path) -> None:
    """``torch.save`` so that ``path`` is either absent, old, or whole, also after a power cut.

    Raises:
        OutputError: the disk is full, or the place can't be written to.
    """
    with written_whole(path) as partial:
        save_torch(plain(content), partial)


def save_torch(content: Any, path: Path) -> None:
    """A torch file with its digest."""
    # a file that Python opens tells of a full disk by an OSError, one that torch opens does not
    with open(path, "wb") as file:
        torch.save(content, file)
    digest.seal(path)


def save_safetensors(state: dict[str, Tensor], path: Path, beside: dict[str, Any]) -> None:
    """A safetensors file with its digest; ``beside`` is what is no tensor, kept as json."""
    metadata = {"format": "pt", digest.KEY: digest.BLANK}
    if beside:
        metadata[METADATA] = json.dumps(beside)
    path.touch()
    mode = path.stat().st_mode  # as the umask has it; safetensors would keep others from reading it
    save_file(state, path, metadata)
    path.chmod(mode)
    digest.seal(path)


def plain(content: Any) -> Any:
    """The content with configs in it as the dicts and lists that they stand for. An optimizer, for one, keeps
    the ``betas`` of its config, and a file should hold nothing that needs OmegaConf to be read."""
    if isinstance(content, DictConfig | ListConfig):
        return OmegaConf.to_container(content, resolve=True)
    if type(content) in (dict, OrderedDict):
        return type(content)((key, plain(item)) for key, item in content.items())
    if type(content) in (list, tuple):
        return type(content)(map(plain, content))
    return content
