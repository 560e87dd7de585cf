"""The folder of downloaded and of placed files, and whether a file is the one that was meant."""

from pathlib import Path

from ..download import verify
from ..files import cache_root


def cache_folder() -> Path:
    """``model_zoo`` in ``$ITPN_D2_CACHE``, by default in ``~/.cache/itpn_d2``."""
    return cache_root() / "model_zoo"


def placed(names: tuple[str, ...], sha256: str | None = None) -> Path | None:
    """The first of the files ``names`` (relative to the cache folder) that is there, verified where a digest
    is known.

    Raises:
        ZooError: its digest is another one.
    """
    path = next((p for p in (cache_folder() / name for name in names) if p.is_file()), None)
    if path is not None and sha256 is not None:
        verify(path, sha256)
    return path
