"""Safe checkpoint files, key maps of foreign layouts, and the report of what was loaded."""

from ..errors import CheckpointError
from .architecture import Architecture, architecture, create_from_checkpoint
from .checkpointer import Checkpointer, atomic_save
from .convert import ConversionReport, convert, inspect
from .detectors import MappedDetector, detector_layout, from_native_detector, to_native_detector
from .key_maps import Mapped, from_native, to_native
from .loading import load_pretrained
from .report import LoadReport
from .safe_load import load_state_file
from .state import find_state, unwrap

__all__ = [
    "Architecture",
    "CheckpointError",
    "Checkpointer",
    "ConversionReport",
    "LoadReport",
    "Mapped",
    "MappedDetector",
    "architecture",
    "atomic_save",
    "convert",
    "create_from_checkpoint",
    "detector_layout",
    "find_state",
    "from_native",
    "from_native_detector",
    "inspect",
    "load_pretrained",
    "load_state_file",
    "to_native",
    "to_native_detector",
    "unwrap",
]
