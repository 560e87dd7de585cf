"""The contents of a checkpoint, which is one file or a folder of shards."""

from pathlib import Path
from typing import Any

from .safe_load import load_file
from .shard_files import is_shards, load_shards


def load_state_file(path: str | Path) -> dict[str, Any]:
    """The contents of a checkpoint, see :func:`.load_file`; of a folder of shards, a ``.dcp``, without the
    optimizer's moments.

    Raises:
        CheckpointError: it can't be read, or contains objects that could run code.
    """
    return load_shards(Path(path)) if is_shards(path) else load_file(path)
