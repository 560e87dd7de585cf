"""One file by HTTP, whole or absent: what an interrupted transfer has left is continued, not repeated."""

import hashlib
import http.client
import logging
import os
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iopath.common.file_io import file_lock
from tqdm import tqdm

from ..errors import ZooError
from ..files import commit
from .cache import verify

logger = logging.getLogger(__name__)
_CHUNK = 1 << 20  # bytes
_AGAIN = {408, 425, 429, 500, 502, 503, 504}  # statuses that may pass
_UNSATISFIABLE = 416


@dataclass(frozen=True)
class _Partial:
    """The beginning of a file, and by what the server knew the version it belongs to.

    Both names hold the address: another address never continues this one's file.
    """

    path: Path
    validator: Path

    @classmethod
    def of(cls, target: Path, url: str) -> "_Partial":
        stem = f"{target.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}"
        return cls(target.with_name(f"{stem}.partial"), target.with_name(f"{stem}.validator"))

    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.validator.unlink(missing_ok=True)


def download(
    url: str,
    target: Path,
    sha256: str | None = None,
    attempts: int = 4,
    timeout: float = 30.0,
    pause: float = 1.0,
) -> Path:
    """Fetch ``url`` to ``target`` unless that exists; one process at a time, the others wait for it.

    Args:
        sha256: of the whole file; checked before it gets its name.
        attempts: how often a broken transfer is taken up again, after ``pause``, twice that, ... seconds.
        timeout: seconds without a byte.

    Raises:
        ZooError: the address can't be reached or refuses, or the file is not the one expected. What has
            arrived of it stays for the next call, but for a file of another digest.
    """
    if not url.startswith(("https://", "http://")):
        raise ZooError(f"{url}: not an address of a file (https://...)")
    target.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(str(target)):
        if not target.is_file():
            partial = _Partial.of(target, url)
            _fetch(url, partial, sha256 is not None, attempts, timeout, pause)
            if sha256 is not None:
                try:
                    verify(partial.path, sha256)
                except ZooError as error:
                    partial.remove()
                    raise ZooError(f"{url}: {error}") from error
            commit(partial.path, target)
            partial.remove()
            logger.info("Downloaded %s to %s", url, target)
    return target


def _fetch(url: str, partial: _Partial, checked: bool, attempts: int, timeout: float, pause: float) -> None:
    for attempt in range(attempts):
        try:
            return _transfer(url, partial, checked, timeout)
        except urllib.error.HTTPError as error:
            reason = f"{error.code} {error.reason}"
            if error.code == _UNSATISFIABLE:
                partial.remove()  # more than there is: not this file's beginning
            elif error.code not in _AGAIN:
                raise ZooError(f"{url}: the server refuses it ({reason})") from error
        except (OSError, http.client.HTTPException) as error:  # what urllib and sockets raise
            reason = str(getattr(error, "reason", "") or error) or type(error).__name__
        if attempt + 1 < attempts:
            logger.warning("%s: %s; %d bytes are here, going on", url, reason, partial.size())
            time.sleep(pause * 2**attempt)
    kept = partial.size()
    left = f"; {kept} bytes are kept, the next call goes on from there" if kept else ""
    raise ZooError(f"{url}: can't be fetched ({reason}){left}")


def _transfer(url: str, partial: _Partial, checked: bool, timeout: float) -> None:
    """From where ``partial`` ends to the end of the file.

    Without a digest (``checked``) only a server that says it is still the same file may continue it.
    """
    start = partial.size()
    validator = partial.validator.read_text() if start and partial.validator.is_file() else ""
    if not validator and not checked:
        start = 0
    headers = {"User-Agent": "itpn-d2", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-Range"] = validator
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=timeout) as response:
        if response.status == http.client.PARTIAL_CONTENT:
            total = _check_range(response.headers.get("Content-Range", ""), start)
        else:  # the whole file: it has changed, or the server knows no ranges
            start, length = 0, response.headers.get("Content-Length")
            total = int(length) if length and length.isdecimal() else None
            partial.remove()
            if found := _validator(response.headers):
                partial.validator.write_text(found)
        _write(response, partial.path, start, total)
    if total is not None and partial.size() != total:
        raise ConnectionError(f"the connection ended at {partial.size()} of {total} bytes")


def _write(response: Any, path: Path, start: int, total: int | None) -> None:
    with (
        open(path, "ab" if start else "wb") as file,
        tqdm(
            desc=path.name.split(".partial")[0],
            initial=start,
            total=total,
            unit="B",
            unit_scale=True,
            disable=None,  # only where somebody looks
        ) as bar,
    ):
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())


def _check_range(header: str, start: int) -> int | None:
    """The size of the whole file; ConnectionError where the answer begins elsewhere."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", header.strip())
    if match is None or int(match[1]) != start:
        raise ConnectionError(f"asked for bytes from {start}, the server answered {header!r}")
    return None if match[2] == "*" else int(match[2])


def _validator(headers: Any) -> str:
    """What ``If-Range`` takes: a strong entity tag, else the date of the last change."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")
