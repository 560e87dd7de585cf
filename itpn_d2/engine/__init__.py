"""The training loop, its hooks, and how a config becomes a run."""

from ..errors import ConfigError
from .allocator import keep_freed_memory
from .cli import base_parser, run_command
from .config import load_config
from .launch import launch
from .run import BaseRun
from .trainer import Trainer
from .training import Run

__all__ = [
    "BaseRun",
    "ConfigError",
    "Run",
    "Trainer",
    "base_parser",
    "keep_freed_memory",
    "launch",
    "load_config",
    "run_command",
]
