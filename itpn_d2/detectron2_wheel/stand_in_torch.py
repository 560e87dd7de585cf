"""What ``setup.py`` of the Detectron2 sdist imports from torch, for pip to ask it for metadata.

pip runs ``setup.py`` even when it only downloads, and that script imports torch, prepares C++ extensions and
declares an extra with a direct URL that newer pips refuse. Copied as ``torch.py`` to the front of PYTHONPATH
for that one command, this module satisfies the imports and lets ``setup()`` see only name and version.
"""

import importlib
import sys
import types
from typing import Any

importlib.import_module("setuptools")  # first: it provides distutils on Python 3.12 and later
core: Any = importlib.import_module("distutils.core")
_setup = core.setup
_KEPT = ("name", "version", "script_name", "script_args")


def _setup_bare(**attributes: Any) -> Any:
    return _setup(packages=[], py_modules=[], **{k: v for k, v in attributes.items() if k in _KEPT})


core.setup = _setup_bare

__version__ = "2.0"
version = types.SimpleNamespace(hip=None)
cuda = types.SimpleNamespace(is_available=lambda: False)


def _no_extension(*args: Any, **kwargs: Any) -> None:
    return None


cpp_extension: Any = types.ModuleType("torch.utils.cpp_extension")
cpp_extension.CUDA_HOME = cpp_extension.ROCM_HOME = None
cpp_extension.CppExtension = cpp_extension.CUDAExtension = _no_extension
cpp_extension.BuildExtension = None
utils: Any = types.ModuleType("torch.utils")
utils.cpp_extension = cpp_extension
sys.modules["torch.utils"] = utils
sys.modules["torch.utils.cpp_extension"] = cpp_extension
