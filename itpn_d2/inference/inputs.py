"""Which images and videos a command line means."""

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..data.paths import EXTENSIONS
from ..errors import ConfigError

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")


@dataclass
class Inputs:
    """Files with the names they go by in results: a file's own, below a folder the path from there.

    Attributes:
        images, videos: (path, name), in order; names are unique.
        problems: (what was asked for, why there is none of it).
    """

    images: list[tuple[Path, str]] = field(default_factory=list)
    videos: list[tuple[Path, str]] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


def find_inputs(given: Iterable[str]) -> Inputs:
    """Files, folders (with all below them) and patterns (``images/*.jpg``).

    A file is a video by its ending, any other file an image; of folders only what ends like one of them.

    Raises:
        ConfigError: there is nothing at all.
    """
    found = Inputs()
    taken: set[str] = set()
    for what in given:
        place = Path(what)
        if place.is_dir():
            files = sorted(_below(place))
            if not files:
                found.problems.append(
                    (what, f"the folder has no file that ends in {', '.join(EXTENSIONS)} ...")
                )
        elif place.exists():
            files = [(place, place.name)]
        else:
            matches = sorted(glob.glob(what, recursive=True))
            files = [(Path(m), Path(m).name) for m in matches if not Path(m).is_dir()]
            if not files:
                found.problems.append((what, "no such file or folder"))
        for path, name in files:
            unique, number = name, 1
            while unique in taken:
                number += 1
                unique = str(Path(name).with_stem(f"{Path(name).stem}_{number}"))
            taken.add(unique)
            (found.videos if path.suffix.lower() in VIDEOS else found.images).append((path, unique))
    if not found.images and not found.videos:
        reasons = "; ".join(f"{what}: {why}" for what, why in found.problems)
        raise ConfigError(f"--input: nothing to do ({reasons or 'no input was given'})")
    return found


def _below(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix.lower() in EXTENSIONS + VIDEOS:
            yield path, path.relative_to(folder).as_posix()
