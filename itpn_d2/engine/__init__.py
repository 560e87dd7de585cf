"""The training loop, its hooks, and how a config becomes a run."""

from .cli import base_parser, errors_of_use, run_command
from .config import ConfigError, load_config
from .launch import launch
from .run import Run
from .trainer import Trainer

__all__ = [
    "ConfigError",
    "Run",
    "Trainer",
    "base_parser",
    "errors_of_use",
    "launch",
    "load_config",
    "run_command",
]
