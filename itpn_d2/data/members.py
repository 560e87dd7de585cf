"""Addresses of images within other files (tar, arrow), ``FILE#OFFSET+SIZE``; they are accepted wherever the
path of an image is."""

import io
import os
import re
from typing import IO, Any

from ..errors import DatasetError

_ADDRESS = re.compile(r"(?P<tar>.*)#(?P<offset>\d+)\+(?P<size>\d+)", re.DOTALL)
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def member_address(tar: str, offset: int, size: int) -> str:
    """The address of ``size`` bytes from ``offset`` of a file."""
    return f"{tar}#{offset}+{size}"


def file_of(address: str) -> str | None:
    """The file of an address; None if it is not an address."""
    found = _ADDRESS.fullmatch(address)
    return None if found is None else found["tar"]


def is_url(place: str) -> bool:
    """Whether a path is a URL: on another machine or in an object store."""
    return _URL.match(place) is not None


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path in it.

    Raises:
        DatasetError: fsspec, or its package for this kind of address, is not installed.
    """
    try:
        import fsspec

        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise DatasetError(
            f"{url}: URLs are read by fsspec and its package for the protocol (s3fs for s3://, gcsfs for "
            f"gs://): {error}. Install it, or give a folder"
        ) from error


def open_member(path: str) -> IO[bytes] | None:
    """The bytes of a picture in a tar file; None where ``path`` is no such address, but a file's.

    Raises:
        OSError: the tar file can't be read, or is shorter than its index says. DatasetError: see
            :func:`file_system`.
    """
    found = _ADDRESS.fullmatch(path)
    if found is None or os.path.exists(path):
        return None
    tar, offset, size = found["tar"], int(found["offset"]), int(found["size"])
    if is_url(tar):
        system, inner = file_system(tar)
        data = system.cat_file(inner, start=offset, end=offset + size)
    else:
        with open(tar, "rb") as file:
            file.seek(offset)
            data = file.read(size)
    if len(data) < size:
        raise OSError(f"{tar} ends in the middle of the image: it was truncated after it was indexed")
    return io.BytesIO(data)
