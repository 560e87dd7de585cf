"""The training loop, its hooks, and how a config becomes a run."""

from .allocator import keep_freed_memory
from .cli import base_parser, errors_of_use, run_command
from .config import load_config
from .launch import launch
from .run import Run
from .trainer import Trainer

__all__ = [
    "ConfigError",
    "Run",
    "Trainer",
    "base_parser",
    "errors_of_use",
    "keep_freed_memory",
    "launch",
    "load_config",
    "run_command",
]
