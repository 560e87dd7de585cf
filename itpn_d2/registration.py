"""The backbones into Detectron2's registry as soon as Detectron2 is there, whichever is imported first.

A program that does without Detectron2 pays nothing, and one whose Detectron2 is broken still has the trunks.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

_REGISTRY = "detectron2.modeling.backbone"
_BUILDERS = "itpn_d2.backbone.builders"


def register_backbones() -> None:
    """Register now, where Detectron2's registry is imported, or when it is."""
    if _REGISTRY in sys.modules:
        import_module(_BUILDERS)
    elif not any(isinstance(finder, _AfterRegistry) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterRegistry())


class _AfterRegistry(MetaPathFinder):
    """Finds nothing itself; to the module with the registry it adds what comes next."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _REGISTRY:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Then(spec.loader)
        return spec


class _Then(Loader):
    """A loader after which the builders are imported."""

    def __init__(self, loader: Loader):
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader  # what the module says of itself
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        import_module(_BUILDERS)
