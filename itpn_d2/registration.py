"""Registers the backbones and the addresses of weights with Detectron2 as soon as that is imported, before or
after this package.

A program that does without Detectron2 pays nothing, and one whose Detectron2 is broken still has the trunks.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

# after a module of Detectron2's, one of ours that registers what it has
_AFTER = {
    "detectron2.modeling.backbone": "itpn_d2.backbone.builders",
    "detectron2.utils.file_io": "itpn_d2.path_handlers",
}


def register_with_detectron2() -> None:
    """Register now, where Detectron2's modules are imported, or when they are."""
    known = {finder.module for finder in sys.meta_path if isinstance(finder, _After)}
    for module, ours in _AFTER.items():
        if module in sys.modules:
            import_module(ours)
        elif module not in known:
            sys.meta_path.insert(0, _After(module, ours))


class _After(MetaPathFinder):
    """Finds nothing itself; to a module of Detectron2's it adds what comes next."""

    def __init__(self, module: str, ours: str):
        self.module, self.ours = module, ours

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.module:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Then(spec.loader, self.ours)
        return spec


class _Then(Loader):
    """A loader after which a module of ours is imported."""

    def __init__(self, loader: Loader, ours: str):
        self.loader, self.ours = loader, ours

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader  # what the module says of itself
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        import_module(self.ours)
