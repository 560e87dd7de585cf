"""``itpn://``, ``hf://`` and ``gdrive://`` on Detectron2's PathManager, where every loader looks.

Imported as soon as PathManager is (``registration.py``). What finds the files, the model zoo, builds on
everything that opens some; it is imported when the first such address is used.
"""

import logging
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from detectron2.utils.file_io import PathHandler, PathManager

from .errors import ZooError

logger = logging.getLogger(__name__)
PREFIXES = ("itpn://", "hf://", "gdrive://")
_FINDER = "itpn_d2.model_zoo.weights_files"


class WeightsHandler(PathHandler):
    """Addresses that stand for a local file, which can be read; see
    :func:`itpn_d2.model_zoo.weights_files.find`."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix

    def find(self, path: str) -> Path:
        """The local file, fetched when the cache lacks it.

        Raises:
            ZooError: no such weights, they can't be fetched, or the file has another digest.
        """
        found: Path = import_module(_FINDER).find(path)
        return found

    def _get_supported_prefixes(self) -> list[str]:
        return [self.prefix]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        self._check_kwargs(kwargs)
        return str(self.find(path))

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        self._check_kwargs(kwargs)
        if mode not in ("r", "rb"):
            raise ZooError(f"{path}: can only be read, not opened with mode {mode!r}")
        return open(self.find(path), mode, buffering)

    def _exists(self, path: str, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        try:
            return self.find(path).is_file()
        except ZooError:
            return False

    _isfile = _exists


def register_path_handlers() -> None:
    """Make all three known to Detectron2's PathManager; a prefix that has a handler keeps it."""
    for prefix in PREFIXES:
        try:
            PathManager.register_handler(WeightsHandler(prefix), allow_override=False)
        except KeyError:
            logger.debug("%s has a handler already", prefix)


register_path_handlers()
