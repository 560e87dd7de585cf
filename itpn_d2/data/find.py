"""Finding the file of an image from its name in a json."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import unquote

from .members import file_of, is_url

T = TypeVar("T")
_WINDOWS = re.compile(r"^[A-Za-z]:|\\")
_ADDRESS = re.compile(r"^(\w{2,}://|/data/)")  # of the web, or of an annotation tool's own server


def normal(name: str) -> str:
    """A path as it is compared: forward slashes, composed characters, no letter case, nothing doubled."""
    return unicodedata.normalize("NFC", os.path.normpath(name.replace("\\", "/"))).casefold()


class SuffixTable(Generic[T]):
    """Paths by the ends that they alone have: ``b/c.png`` finds ``a/b/c.png`` unless there is ``d/b/c.png``.

    Args:
        paths: with whatever a path is to stand for.
    """

    def __init__(self, paths: Iterable[tuple[str, T]]):
        self._whole: dict[str, list[T]] = {}
        self._by_name: dict[str, list[str]] = {}
        for path, target in paths:
            key = normal(path)
            self._whole.setdefault(key, []).append(target)
            self._by_name.setdefault(key.rpartition("/")[2], []).append(key)

    def find(self, name: str) -> T | None:
        """What the path stands for that is ``name``, ends in it, or that it ends in; the longest common end
        wins, and where several have it there is none."""
        wanted = normal(name)
        best: list[str] = []
        length = 0
        for key in dict.fromkeys(self._by_name.get(wanted.rpartition("/")[2], ())):
            shorter, longer = sorted((wanted.split("/"), key.split("/")), key=len)
            if longer[-len(shorter) :] != shorter:
                continue
            if len(shorter) > length:
                best, length = [], len(shorter)
            if len(shorter) == length:
                best.append(key)
        if wanted in best:
            best = [wanted]
        targets = [t for key in best for t in self._whole[key]]
        return targets[0] if len(targets) == 1 else None


class ImageFinder:
    """The files below a folder, for names that programs have written on other systems."""

    def __init__(self, root: str | Path):
        self.root = str(root)

    def find(self, name: str) -> str | None:
        """The path below ``root`` that ``name`` is of; None where there is no such file, or several may be
        meant. A name that is of a file as it stands is that file.

        Else the separators of Windows, percent-encoding, the folders in front (of which some may be missing,
        or be too many), Unicode's normal forms and the letter case may differ.
        """
        if os.path.isfile(os.path.join(self.root, name)):
            return name
        for spelling in self._spellings(name):
            if os.path.isfile(os.path.join(self.root, spelling)):
                return spelling
        for spelling in (name, *self._spellings(name)):
            found = self._files.find(spelling)
            if found is not None:
                return found
        return None

    def similar(self, name: str) -> str | None:
        """The one file whose path differs from ``name`` in its ending alone (an image that was converted)."""
        if "\0" in name:
            return None
        stem = os.path.splitext(normal(name))[0]
        found = [path for path in self._paths if os.path.splitext(normal(path))[0] in (stem, normal(name))]
        return found[0] if len(found) == 1 else None

    @staticmethod
    def _spellings(name: str) -> Iterator[str]:
        plain = re.sub(r"^[A-Za-z]:", "", name).replace("\\", "/")
        plain = re.sub(r"^\w+://[^/]*/?", "", plain)
        plain = plain.rpartition("?d=")[2].partition("?")[0]  # Label Studio: /data/local-files/?d=folder/name
        for spelling in dict.fromkeys((plain, unquote(plain))):
            for form in ("NFC", "NFD"):
                found = unicodedata.normalize(form, spelling).lstrip("/")
                if found and found != name:
                    yield found

    @cached_property
    def _paths(self) -> list[str]:
        found = []
        for folder, _, names in os.walk(self.root):
            relative = os.path.relpath(folder, self.root)
            found += [name if relative == "." else os.path.join(relative, name) for name in names]
        return found

    @cached_property
    def _files(self) -> SuffixTable[str]:
        return SuffixTable((path, path) for path in self._paths)


class AsItIs(ImageFinder):
    """Who names the files knows where they are: nothing is looked for. A name may be an address within a file
    (:mod:`.members`)."""

    def find(self, name: str) -> str | None:
        """``name`` itself, if it is a web address or the file that it is in exists; else None."""
        holder = file_of(name) if not os.path.exists(name) else name
        return name if holder is not None and (is_url(holder) or os.path.isfile(holder)) else None


def what_name_is(name: str) -> str:
    """The peculiarity of a name for which there is no file, as the end of a message; empty if there is
    none."""
    if _WINDOWS.search(name):
        return "; it is a path of Windows (backslashes)"
    if _ADDRESS.match(name):
        return "; it is an address, not a path: export the images with the json"
    if re.search(r"%[0-9A-Fa-f]{2}", name):
        return "; it is percent-encoded (%20 for a blank)"
    if name != unicodedata.normalize("NFC", name):
        return "; its letters and their accents are separate characters (Unicode NFD)"
    return ""
