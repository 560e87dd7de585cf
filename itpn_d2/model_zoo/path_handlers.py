"""``itpn://``, ``hf://`` and ``gdrive://`` on Detectron2's PathManager, where every loader looks."""

import logging
from pathlib import Path
from typing import IO, Any

from detectron2.utils.file_io import PathHandler, PathManager

from .. import boxed
from ..checkpoint.shared_links import behind_the_page
from ..download import download
from ..errors import ZooError
from . import gdrive
from .cache import cache_folder, placed
from .digests import trust_on_first_use
from .entry import Weights
from .hub import hub_file
from .registry import find_weights

logger = logging.getLogger(__name__)
PREFIX = "itpn://"


def weights_file(weights: Weights) -> Path:
    """The local file of published weights, fetched when the cache lacks it; of our own,
    that of the package.

    Raises:
        ZooError: no network, or nobody gave an address, and it has not been placed either; or another digest.
    """
    found = present(weights)
    if found is None:
        found = _fetched(weights)
    if weights.sha256 is None and not _is_ours(weights):
        trust_on_first_use(weights.file, found)
    return found


def present(weights: Weights) -> Path | None:
    """The file, where it is there without being fetched: in the package or in the cache.

    Raises:
        ZooError: its digest is another one.
    """
    if _is_ours(weights):
        return boxed.boxed_weights(str(weights.url))
    return placed((weights.file, *weights.aliases), weights.sha256)


def _is_ours(weights: Weights) -> bool:
    return weights.url is not None and weights.url.startswith(boxed.PREFIX)


def _fetched(weights: Weights) -> Path:
    place = cache_folder() / weights.file
    if weights.url is None:
        raise ZooError(
            f"{weights.file}: it has no address from which a program could download it. It is published "
            f"by {weights.publisher}{_for_people(weights)}. Place it at {place}"
        )
    url = behind_the_page(weights.url)
    try:
        if url.startswith("hf://"):
            return hub_file(url, weights.sha256)
        if url.startswith(gdrive.PREFIX):
            return gdrive.fetch(url, place, weights.sha256)
        return download(url, place, weights.sha256)
    except ZooError as error:
        digest = f" (sha256 {weights.sha256})" if weights.sha256 else ""
        raise ZooError(
            f"{error}{_for_people(weights)}. Without network: place {weights.file}{digest} at {place}"
        ) from error


def _for_people(weights: Weights) -> str:
    return f" (in a browser: {weights.page})" if weights.page else ""


class _ReadOnly(PathHandler):
    """Paths that stand for a local file."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix

    def find(self, path: str) -> Path:
        raise NotImplementedError

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


class ZooHandler(_ReadOnly):
    """``itpn://FILE`` or ``itpn://ENTRY``: weights that an entry of the zoo names."""

    def __init__(self) -> None:
        super().__init__(PREFIX)

    def find(self, path: str) -> Path:
        """The local file, fetched when the cache lacks it.

        Raises:
            ZooError: no such weights, they can't be fetched, or the file has another digest.
        """
        return weights_file(find_weights(path.removeprefix(PREFIX)))


class DriveHandler(_ReadOnly):
    """``gdrive://ID``, see :func:`~itpn_d2.model_zoo.gdrive.fetch`."""

    def __init__(self) -> None:
        super().__init__(gdrive.PREFIX)

    def find(self, path: str) -> Path:
        """The local file in the zoo's cache, fetched when that lacks it.

        Raises:
            ZooError: it can't be fetched, or is another file than the first time.
        """
        name = f"gdrive/{path.removeprefix(gdrive.PREFIX)}"
        found = gdrive.fetch(path, cache_folder() / name)
        trust_on_first_use(name, found)
        return found


class HubHandler(_ReadOnly):
    """``hf://org/repo[@revision]/file``, see :func:`~itpn_d2.model_zoo.hub.hub_file`."""

    def __init__(self) -> None:
        super().__init__("hf://")

    def find(self, path: str) -> Path:
        """The local file, fetched when the cache lacks it.

        Raises:
            ZooError: not such a path, it can't be fetched, or it is damaged.
        """
        return hub_file(path)


def register_path_handlers() -> None:
    """Make all three known to Detectron2's PathManager; a prefix that has a handler keeps it."""
    for handler in (ZooHandler(), HubHandler(), DriveHandler()):
        try:
            PathManager.register_handler(handler, allow_override=False)
        except KeyError:
            logger.debug("%s has a handler already", handler.prefix)
