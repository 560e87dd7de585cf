"""From the name of a file, which may be an address, to a local file."""

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from detectron2.checkpoint.catalog import ModelCatalog
from detectron2.utils.file_io import Detectron2Handler, PathManager
from iopath.common.file_io import get_cache_dir

from ..addresses import masked
from ..download import download, parts_of
from ..errors import CheckpointError, UseError
from .shared_links import behind_the_page

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_KNOWN = "a path, file://, http://, https://, itpn://, hf://, gdrive://, detectron2:// or catalog://"
_LONGEST = 150  # characters of the name of a fetched file


def local_path(address: str | os.PathLike) -> str:
    """The local file that a path or address means; a file on the web is fetched, once, into the cache that
    Detectron2 uses (``$FVCORE_CACHE``). Schemes that are not known here are looked up in Detectron2's
    PathManager, where this project (``itpn_d2/path_handlers.py``) and others register theirs.

    Raises:
        CheckpointError: no such scheme, or the file can't be fetched; the message has the address without
            passwords, the reason and the remedy.
    """
    if not isinstance(address, str | os.PathLike):
        raise CheckpointError(f"{address!r:.100} is not the name of a file: give {_KNOWN}")
    text = os.fspath(address)
    match = _SCHEME.match(text)
    if match is None:
        return text
    scheme, rest = match[1].lower(), text[match.end() :]
    if scheme == "file":
        return _of_this_machine(text)
    if scheme in ("http", "https"):
        parts_of(text)  # an address at all
        file = behind_the_page(text)
        web = file.lower().startswith(("http://", "https://"))
        return str(_fetched(file)) if web else _by_path_manager(file, file.partition(":")[0])
    if scheme == "detectron2":
        return str(_fetched(Detectron2Handler.S3_DETECTRON2_PREFIX + rest))
    if scheme == "catalog":
        try:
            return local_path(ModelCatalog.get(rest))
        except (RuntimeError, ValueError, KeyError) as error:
            if isinstance(error, UseError):
                raise
            raise CheckpointError(f"{text}: Detectron2's catalog has no such model ({error})") from error
    return _by_path_manager(text, scheme)


def _of_this_machine(address: str) -> str:
    host = parts_of(address).netloc
    if host not in ("", "localhost"):
        raise CheckpointError(
            f"{address}: {host} is another machine, from which nothing is read; write file:///folder/file"
        )
    return url2pathname(unquote(urlsplit(address).path))


def _fetched(address: str) -> Path:
    parts = parts_of(address)
    # no file system takes control characters, NUL least of all
    place = Path(re.sub(r"[\x00-\x1f]", "_", unquote(parts.path)).lstrip("/"))
    name = place.name or "file"
    if len(name) > _LONGEST or parts.query:  # another query may be another file
        name = f"{hashlib.sha256(address.encode()).hexdigest()[:12]}_{name[-_LONGEST:]}"
    folder = Path(get_cache_dir()).joinpath(*(p for p in place.parent.parts if p not in ("..", ".")))
    try:
        return download(address, folder / name)
    except UseError as error:
        raise CheckpointError(
            f"{error}. Without a connection, download the file elsewhere and give its path instead"
        ) from error


def _by_path_manager(address: str, scheme: str) -> str:
    try:
        # PathManager's own ftp:// waits for ever where nobody answers
        found = address if scheme == "ftp" else PathManager.get_local_path(address)
    except UseError:
        raise
    except Exception as error:  # handlers of others raise whatever their libraries do
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{masked(address)}: can't be fetched ({masked(reason)})") from error
    if os.path.normpath(found) == os.path.normpath(address):  # nobody took it for more than a path
        raise CheckpointError(
            f"{masked(address)}: addresses with {scheme}:// are not supported: give {_KNOWN}"
        )
    return found
