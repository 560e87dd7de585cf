"""Digests of files of which nobody has published one: recorded at the first download, compared afterwards."""

import json
import logging
from pathlib import Path

from ..download import sha256_of, verify
from ..errors import ZooError
from ..files import write_json
from .cache import cache_folder

logger = logging.getLogger(__name__)


def record_file() -> Path:
    """``digests.json`` in the zoo's cache: SHA-256 by file name."""
    return cache_folder() / "digests.json"


def recorded() -> dict[str, str]:
    """What has been recorded.

    Raises:
        ZooError: the file can't be read.
    """
    path = record_file()
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): str(digest) for name, digest in found.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ZooError(
            f"{path}: can't be read ({error}); if you remove it, digests are recorded anew"
        ) from error


def trust_on_first_use(name: str, path: Path) -> None:
    """Record the digest of a file by its name, or compare with the one that is recorded.

    Raises:
        ZooError: it is another file than the first time.
    """
    known = recorded()
    if name not in known:
        known[name] = sha256_of(path)
        write_json(record_file(), known)
        logger.info("%s: sha256 %s has been recorded; later downloads must match it", name, known[name])
        return
    try:
        verify(path, known[name])
    except ZooError as error:
        raise ZooError(
            f"{error} The file differs from the first download. If the publisher has replaced it, remove "
            f"its line from {record_file()}"
        ) from error
