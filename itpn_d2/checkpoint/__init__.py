"""Safe checkpoint files, key maps of foreign layouts, and the report of what was loaded."""

from .checkpointer import Checkpointer, atomic_save
from .errors import CheckpointError
from .key_maps import Mapped, from_native, to_native
from .loading import load_pretrained
from .report import LoadReport
from .safe_load import load_state_file, unwrap

__all__ = [
    "CheckpointError",
    "Checkpointer",
    "LoadReport",
    "Mapped",
    "atomic_save",
    "from_native",
    "load_pretrained",
    "load_state_file",
    "to_native",
    "unwrap",
]
