"""Safe checkpoint files, key maps of foreign layouts, and the report of what was loaded."""

from ..errors import CheckpointError
from .addresses import local_path
from .architecture import Architecture, architecture
from .checkpointer import Checkpointer
from .classes import Classes
from .convert import ConversionReport, convert, inspect
from .create import create_from_checkpoint
from .detectors import MappedDetector, detector_layout, from_native_detector, to_native_detector
from .key_maps import Mapped, from_native, to_native
from .loading import load_pretrained
from .report import LoadReport
from .resume import last_checkpoint
from .state import find_state, unwrap
from .state_file import load_state_file
from .write import atomic_save

__all__ = [
    "Architecture",
    "CheckpointError",
    "Checkpointer",
    "Classes",
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
    "last_checkpoint",
    "load_pretrained",
    "load_state_file",
    "local_path",
    "to_native",
    "to_native_detector",
    "unwrap",
]
