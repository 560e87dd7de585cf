"""The folder of downloaded and of placed files, and whether a file is the one that was meant."""

import hashlib
import logging
from pathlib import Path

from ..errors import ZooError
from ..files import cache_root

logger = logging.getLogger(__name__)
_CHUNK = 1 << 22  # bytes
_verified: set[tuple[str, int, int, str]] = (
    set()
)  # path, size, time of change, digest: hashed in this process


def cache_folder() -> Path:
    """``model_zoo`` in ``$ITPN_D2_CACHE``, by default in ``~/.cache/itpn_d2``."""
    return cache_root() / "model_zoo"


def sha256_of(path: Path) -> str:
    """The digest of a file, in hexadecimals."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def verify(path: Path, sha256: str) -> None:
    """Compare the digest of ``path``; a file that has not changed since is not read again.

    Raises:
        ZooError: it is another one.
    """
    status = path.stat()
    key = str(path.resolve()), status.st_size, status.st_mtime_ns, sha256
    if key in _verified:
        return
    found = sha256_of(path)
    if found != sha256:
        raise ZooError(
            f"{path}: sha256 is {found}, {sha256} was expected: damaged, incomplete or another file. "
            f"Remove it, and get it again"
        )
    _verified.add(key)


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
