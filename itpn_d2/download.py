"""One file by HTTP, whole or absent: an interrupted transfer is continued, not repeated.

A name and password in an address (``https://name:password@host/...``) are sent as HTTP's basic authorization;
no message and no log shows them, nor query values that may be secret.
"""

import base64
import errno
import hashlib
import http.client
import ipaddress
import logging
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from iopath.common.file_io import file_lock
from tqdm import tqdm

from .addresses import masked
from .errors import OutputError, ZooError
from .files import commit

logger = logging.getLogger(__name__)
_CHUNK = 1 << 20  # bytes
_AGAIN = {408, 425, 429, 500, 502, 503, 504}  # statuses that may pass
_UNSATISFIABLE = 416
_verified: set[tuple[str, int, int, str]] = set()  # path, size, time of change, digest of this process' files
_TIMEOUT = 20.0  # seconds without a byte
_LOCAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}


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


def parts_of(url: str) -> SplitResult:
    """The parts of an address.

    Raises:
        ZooError: it is none.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        if parts.scheme in ("http", "https"):
            if not host:
                raise ValueError("no host is named")
            host.encode("idna")
            if "[" in parts.netloc:  # which urlsplit looks into from Python 3.11.4 on
                ipaddress.IPv6Address(host.partition("%")[0])
        if re.search(r"[\s\x00-\x1f\x7f]", re.split("[/?#]", url.partition("://")[2])[0]):
            raise ValueError("its host has a space or a control character")
    except ValueError as error:  # texts of urlsplit about a port show what stands in its place
        reason = "its port is no number" if "Port " in str(error) or "port" in str(error) else str(error)
        raise ZooError(f"{masked(url):.300}: not an address ({reason})") from error
    return parts


def download(
    url: str,
    target: Path,
    sha256: str | None = None,
    attempts: int = 4,
    timeout: float = _TIMEOUT,
    pause: float = 1.0,
) -> Path:
    """Fetch ``url`` to ``target`` unless that exists; one process at a time, the others wait for it.

    Args:
        sha256: of the whole file; checked before it gets its name.
        attempts: how often a broken transfer is taken up again, after ``pause``, twice that, ... seconds; a
            host that can't be reached is asked twice.
        timeout: seconds without a byte.

    Raises:
        ZooError: the address can't be reached or refuses, or the file is not the one expected. What has
            arrived of it is kept for the next call, except for a file with another digest. OutputError: it
            can't be kept where it should.
    """
    if not url.lower().startswith(("https://", "http://")):
        raise ZooError(f"{masked(url)}: not an address of a file (https://...)")
    parts_of(url)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{target}: its folder can't be made ({error.strerror})") from error
    with file_lock(str(target)):
        if not target.is_file():
            partial = _Partial.of(target, url)
            _fetch(url, partial, sha256 is not None, attempts, timeout, pause)
            try:
                _refuse_page(partial.path)
                if sha256 is not None:
                    verify(partial.path, sha256)
            except ZooError as error:
                partial.remove()
                raise ZooError(f"{masked(url)}: {error}") from error
            commit(partial.path, target)
            partial.remove()
            logger.info("Downloaded %s to %s", masked(url), target)
    return target


def _fetch(url: str, partial: _Partial, checked: bool, attempts: int, timeout: float, pause: float) -> None:
    attempt = 0
    while True:
        attempt += 1
        had = partial.size()
        try:
            return _transfer(url, partial, checked, timeout)
        except urllib.error.HTTPError as error:
            reason = f"{error.code} {error.reason}"
            if error.code == _UNSATISFIABLE:
                partial.remove()  # more than there is: not this file's beginning
            elif error.code not in _AGAIN:
                raise ZooError(f"{masked(url)}: the server refuses it ({reason})") from error
        except (OSError, http.client.HTTPException, ValueError) as error:  # what urllib and sockets raise
            if isinstance(error, OSError) and error.errno in _LOCAL:
                raise OutputError(f"{partial.path}: can't be written ({error.strerror})") from error
            cause = getattr(error, "reason", error)
            reason = masked(str(cause)) or type(cause).__name__
            if _is_for_good(cause):
                break
            if isinstance(cause, TimeoutError) and partial.size() == had:
                attempts = min(attempts, 2)
        if attempt >= attempts:
            break
        logger.warning(
            "%s: %s; continuing after the %d bytes received so far", masked(url), reason, partial.size()
        )
        time.sleep(pause * 2 ** (attempt - 1))
    kept = partial.size()
    left = f"; {kept} bytes are kept, and the next call continues from there" if kept else ""
    raise ZooError(f"{masked(url)}: can't be fetched ({reason}){left}")


def _is_for_good(cause: Any) -> bool:
    """Whether another try can't help: nobody listens, no such host, a certificate that is not trusted."""
    if isinstance(cause, socket.gaierror):
        return cause.errno != socket.EAI_AGAIN
    return isinstance(cause, ConnectionRefusedError | ssl.SSLCertVerificationError | str) or (
        not isinstance(cause, OSError | http.client.HTTPException)
    )


def _request(url: str, headers: dict[str, str]) -> urllib.request.Request:
    """The request for an address, whose password becomes a header and whose odd characters are quoted."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    if at:
        headers = {**headers, "Authorization": f"Basic {base64.b64encode(unquote(login).encode()).decode()}"}
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    host = host.encode("idna").decode() if not host.isascii() else host
    plain = parts._replace(netloc=host, path=path, query=query, fragment="").geturl()
    return urllib.request.Request(plain, headers=headers)


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
    with urllib.request.urlopen(_request(url, headers), timeout=timeout) as response:
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


def _refuse_page(path: Path) -> None:
    """Refuse a web page, which sites send to ask for a login, for example; no file fetched here begins so."""
    with open(path, "rb") as file:
        start = file.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise ZooError(
            "the server sent a web page instead of the file: open the address in a browser, and give the "
            "address of the download itself"
        )


def _check_range(header: str, start: int) -> int | None:
    """The size of the whole file; ConnectionError where the answer begins elsewhere."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", header.strip())
    if match is None or int(match[1]) != start:
        raise ConnectionError(f"asked for bytes from {start}, but the server answered {header!r}")
    return None if match[2] == "*" else int(match[2])


def _validator(headers: Any) -> str:
    """What ``If-Range`` takes: a strong entity tag, else the date of the last change."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


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
            f"{path}: sha256 is {found}, but {sha256} was expected: the file is damaged, incomplete or "
            f"a different one. Remove it, and download it again"
        )
    _verified.add(key)
