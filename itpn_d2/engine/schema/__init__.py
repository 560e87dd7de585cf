"""The keys of a config that are no arguments of a target: their types, ranges and defaults.

Modules: ``values`` (types of values, and what a section is), ``run`` (the section ``train``), ``sections``
(the other sections and whole configs), ``checking`` (what is wrong with a config).
"""

from .checking import validated
from .run import Ddp, Pretraining, Training
from .sections import SECTIONS, Config, Dataloader, PretrainConfig, kind_of
from .values import Call, Section, defaults

__all__ = [
    "SECTIONS",
    "Call",
    "Config",
    "Dataloader",
    "Ddp",
    "PretrainConfig",
    "Pretraining",
    "Section",
    "Training",
    "defaults",
    "kind_of",
    "validated",
]
