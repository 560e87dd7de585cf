"""Finding the images and videos that a command line names."""

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..data.image_sources import EXTENSIONS
from ..errors import ConfigError

_KEPT = (".jpg", ".jpeg", ".png")  # formats that a picture keeps
RESULTS = ("instances.json", "stuff.json", "panoptic.json", "images.json", "summary.json", "results.jsonl")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")


@dataclass
class Inputs:
    """Files with the names they go by in results: a file's own, below a folder the path from there.

    Attributes:
        images, videos: (path, name), in order; names are unique.
        problems: (input, reason why there is nothing to predict).
    """

    images: list[tuple[Path, str]] = field(default_factory=list)
    videos: list[tuple[Path, str]] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


def find_inputs(given: Iterable[str], output: Path | None = None) -> Inputs:
    """Files, folders (with all below them) and patterns (``images/*.jpg``).

    A file is a video by its ending, any other file an image; of folders only what ends like one of them.

    Args:
        output: the folder for results: what is below it is not taken from a folder that holds it.

    Raises:
        ConfigError: there is nothing at all; or ``output`` is or holds one of the folders.
    """
    found = Inputs()
    taken: set[str] = set()
    for what in given:
        try:
            files = _meant_by(what, output)
        except (OSError, ValueError) as error:  # a name that is too long, or has a zero byte
            if isinstance(error, ConfigError):
                raise
            reason = error.strerror if isinstance(error, OSError) else None
            found.problems.append((_short(what), reason or str(error)))
            continue
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


def _meant_by(what: str, output: Path | None) -> list[tuple[Path, str]]:
    """The files that one input stands for, with their names.

    Raises:
        ConfigError: it is a folder that the results would go into, or that they would be mixed with.
        ValueError: there are none; OSError: the system refuses the name.
    """
    if not what:
        raise ValueError("an empty name")
    place = Path(what)
    if os.path.isdir(what):
        if output is not None and place.resolve().is_relative_to(output.resolve()):
            raise ConfigError(
                f"--output {output} is, or contains, the input {what}, whose images could be overwritten: "
                "choose a folder elsewhere"
            )
        files = sorted(_below(place, output))
        if not files:
            raise ValueError(f"the folder has no file that ends in {', '.join(EXTENSIONS)} ...")
        return files
    try:
        mode = os.stat(what).st_mode
    except FileNotFoundError as error:
        matches = sorted(m for m in glob.glob(what, recursive=True) if os.path.isfile(m))
        if not matches:
            raise ValueError("no such file or folder") from error
        return [(Path(m), Path(m).name) for m in matches]
    if not stat.S_ISREG(mode):
        raise ValueError("a pipe or device, not a file: write its content into a file first")
    return [(place, place.name)]


def _short(name: str) -> str:
    return name if len(name) <= 200 else f"{name[:80]}... ({len(name)} characters)"


def printable(text: str) -> str:
    """A text with escapes for what UTF-8 lacks, as of file names in other encodings."""
    return text.encode("utf-8", "backslashreplace").decode()


def check_not_overwritten(inputs: Inputs, others: Iterable[Path], output: Path) -> None:
    """Raises:
    ConfigError: results in ``output`` would take the place of a file that is read.
    """
    read = [*(path for path, _ in (*inputs.images, *inputs.videos)), *others]
    known = {(s.st_dev, s.st_ino): path for path in read if (s := _status(path)) is not None}
    written = [output / name for name in RESULTS]
    written += [picture_path(output, name) for _, name in inputs.images]
    for _, name in inputs.videos:
        written += [video_path(output, name), *(output / "videos" / name / result for result in RESULTS)]
    for path in written:
        status = _status(path)
        if status is not None and (status.st_dev, status.st_ino) in known:
            raise ConfigError(
                f"--output {output}: {path} would overwrite the input "
                f"{known[status.st_dev, status.st_ino]}: choose another folder"
            )


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):
        return None


def picture_path(output: Path, name: str) -> Path:
    """Where the picture of an image goes; formats that a picture can't keep become PNG."""
    path = output / "pictures" / name
    return path if path.suffix.lower() in _KEPT else path.with_name(f"{path.name}.png")


def video_path(output: Path, name: str) -> Path:
    """Where the frames of a video go."""
    return output / "videos" / f"{name}.mp4"


def _below(folder: Path, output: Path | None) -> Iterator[tuple[Path, str]]:
    results = None if output is None else output.resolve()
    for path in folder.rglob("*"):
        if results is not None and path.resolve().is_relative_to(results):
            continue  # of an earlier run
        if path.is_file() and path.suffix.lower() in EXTENSIONS + VIDEOS:
            yield path, path.relative_to(folder).as_posix()
