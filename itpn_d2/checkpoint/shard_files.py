"""A checkpoint in shards: the contents of its folder, and reading it whole or in shards.

``torch.distributed.checkpoint`` writes the tensors: a file of each process, and ``.metadata``, a pickle that
torch's own tools read. Here that pickle is never opened, and nothing in the folder is executed.
:data:`CONTENTS`, one of our own files, records the position of each tensor and contains everything that is
not a tensor; it is written last.
"""

import io
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.storage import WriteResult
from torch.distributed.tensor import DTensor, zeros

from ..errors import CheckpointError
from .safe_load import load_file
from .write import atomic_save

SUFFIX = ".dcp"
CONTENTS = "contents.pth"
_FILE = re.compile(r"__\d+_\d+\.distcp")
_DTYPES = {str(v).removeprefix("torch."): v for v in vars(torch).values() if isinstance(v, torch.dtype)}
_LARGEST = 1 << 50  # of any number in a table
OPTIMIZER = "optimizer"  # whose moments only a resumed run needs

Place = tuple[str | int, ...]  # of keys and positions, from the top of a checkpoint's content


@dataclass(frozen=True)
class Piece:
    """A part of a tensor, and where it lies.

    Attributes:
        offset, sizes: of the part in the tensor.
        file: a name in the folder.
        start, length: bytes in it.
    """

    offset: tuple[int, ...]
    sizes: tuple[int, ...]
    file: str
    start: int
    length: int


@dataclass(frozen=True)
class Entry:
    """A tensor of a checkpoint in shards."""

    path: Place
    dtype: torch.dtype
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]

    @property
    def name(self) -> str:
        """The parts of its path, joined by dots."""
        return name_of(self.path)


def name_of(path: Place) -> str:
    """The name of a tensor, as torch's own tools show it."""
    return ".".join(map(str, path))


def is_shards(path: str | Path) -> bool:
    """Whether a path is that of a checkpoint in shards, which is a folder."""
    path = Path(path)
    return path.suffix == SUFFIX and path.is_dir()


def walked(content: Any, change: Callable[[Place, Any], Any], path: Place = ()) -> Any:
    """A copy of dicts, lists and tuples within each other, with ``change(path, value)`` for what is none."""
    if type(content) in (dict, OrderedDict):
        return type(content)((key, walked(value, change, (*path, key))) for key, value in content.items())
    if type(content) in (list, tuple):
        return type(content)(walked(value, change, (*path, i)) for i, value in enumerate(content))
    return change(path, content)


def write_contents(folder: Path, rest: Any, metadata: Metadata, written: Sequence[WriteResult]) -> None:
    """Write what makes of the files of torch a checkpoint of ours.

    Args:
        rest: the content without its tensors.
        metadata: of the tensors, by the names of their paths.
        written: where torch has put their pieces.

    Raises:
        OutputError: it can't be written.
    """
    found = metadata.state_dict_metadata
    files = sorted({result.storage_data.relative_path for result in written})
    number = {name: i for i, name in enumerate(files)}
    places = {(r.index.fqn, tuple(r.index.offset or ())): r.storage_data for r in written}
    kinds: dict[str, int] = {}
    # all numbers in one tensor: a pickle with a few for each of thousands would be long
    table: list[int] = []
    for name, tensor in found.items():
        assert isinstance(tensor, TensorStorageMetadata)  # nothing else was given
        kind = str(tensor.properties.dtype).removeprefix("torch.")
        table += [kinds.setdefault(kind, len(kinds)), len(tensor.size), len(tensor.chunks), *tensor.size]
        for piece in tensor.chunks:
            place = places[name, tuple(piece.offsets)]
            table += [number[place.relative_path], place.offset, place.length, *piece.offsets, *piece.sizes]
    index = {"files": files, "kinds": list(kinds), "tensors": list(found), "table": torch.tensor(table)}
    atomic_save({"rest": rest, **index}, folder / CONTENTS)


def load_rest(folder: str | Path) -> dict[str, Any]:
    """All of a checkpoint in shards that is no tensor; None stands for each of those.

    Raises:
        CheckpointError: see :func:`load_shards`.
    """
    return _contents(Path(folder))[0]


def load_shards(folder: str | Path, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The content of a checkpoint in shards, with whole tensors on the CPU.

    Args:
        like: a content whose sharded tensors say which of the checkpoint's this process wants its shard of;
            a tensor in it stands for all that is below its key. None: an optimizer's moments are left out.

    Raises:
        CheckpointError: the folder is not one that this project has written, or not whole, or damaged.
    """
    folder = Path(folder)
    rest, entries = _contents(folder)
    if like is None:
        entries = [entry for entry in entries if OPTIMIZER not in entry.path]
    wanted = {entry.name: _room(entry, _at(like, entry.path)) for entry in entries}
    planner = DefaultLoadPlanner()
    planner.set_up_planner(dict(wanted), _as_metadata(entries), True)
    pieces = {(entry.name, piece.offset): (entry, piece) for entry in entries for piece in entry.pieces}
    for item in planner.create_local_plan().items:
        at = item.storage_index
        entry, piece = pieces[at.fqn, tuple(at.offset or ())]
        values = _read(folder, entry, piece)
        for dim, (start, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
            values = values.narrow(dim, start, length)
        place = planner.resolve_tensor(item).detach()
        place.copy_(values)
        planner.commit_tensor(item, place)
    found = {entry.path: wanted[entry.name] for entry in entries}
    return walked(rest, lambda path, value: found.get(path, value))


def _at(like: Any, path: Place) -> Any:
    for key in path:
        if isinstance(like, Tensor):
            return like
        like = like.get(key) if isinstance(like, Mapping) else None
    return like


def _room(entry: Entry, like: Any) -> Tensor:
    """Zeros for a tensor, or for the shard of it that this process has of ``like``."""
    if isinstance(like, DTensor) and tuple(like.shape) == entry.shape:
        mesh, placements = like.device_mesh, like.placements
        return zeros(*entry.shape, dtype=entry.dtype, device_mesh=mesh, placements=placements)
    return torch.zeros(entry.shape, dtype=entry.dtype)


def _as_metadata(entries: list[Entry]) -> Metadata:
    """What torch's planner asks for."""
    return Metadata(
        {
            entry.name: TensorStorageMetadata(
                TensorProperties(dtype=entry.dtype),
                torch.Size(entry.shape),
                [ChunkStorageMetadata(torch.Size(p.offset), torch.Size(p.sizes)) for p in entry.pieces],
            )
            for entry in entries
        }
    )


def _read(folder: Path, entry: Entry, piece: Piece) -> Tensor:
    """The numbers of a part. Torch has written it as a file of its own, whose pickle is passed over: shape
    and type are known, and the numbers lie there in a row."""
    path = folder / piece.file
    count = _product(piece.sizes)
    if not count:
        return torch.empty(piece.sizes, dtype=entry.dtype)
    try:
        with open(path, "rb") as file:
            file.seek(piece.start)
            raw = file.read(piece.length)
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            (stored,) = [e for e in archive.infolist() if e.filename.endswith("/data/0")]
            if stored.compress_type != zipfile.ZIP_STORED or stored.file_size != count * entry.dtype.itemsize:
                raise ValueError(f"{stored.file_size} bytes for {piece.sizes}")
            numbers = bytearray(archive.read(stored))  # which compares the checksum
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: damaged: {entry.name} can't be read from it ({reason})") from error
    return torch.frombuffer(numbers, dtype=entry.dtype).view(piece.sizes)


def _contents(folder: Path) -> tuple[dict[str, Any], list[Entry]]:
    path = folder / CONTENTS
    if not path.is_file():
        raise CheckpointError(
            f"{folder}: not a checkpoint of this project, or incomplete: {CONTENTS} is missing. If "
            "another program wrote the folder and you trust its origin, convert it into one file: python "
            f"-m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} FILE"
        )
    content = load_file(path)
    try:
        rest, entries = content["rest"], _entries(content)
        if not isinstance(rest, dict):
            raise ValueError(f"its contents are a {type(rest).__name__}, not a dict")
        _check_sizes(folder, entries)
    except (LookupError, ValueError, TypeError, AttributeError, OverflowError, OSError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise CheckpointError(f"{path}: not the contents of a checkpoint, or damaged ({reason})") from error
    return rest, entries


def _entries(content: dict[str, Any]) -> list[Entry]:
    files = content["files"]
    for name in files:
        if not isinstance(name, str) or not _FILE.fullmatch(name):  # nothing outside of the folder
            raise ValueError(f"{name!r:.100} is not a shard file")
    paths = _paths(content["rest"])
    numbers = iter(_table(content["table"]))
    entries = []
    for name in content["tensors"]:
        kind, dims, count = _next(numbers, 3)
        shape = _next(numbers, dims)
        pieces = []
        for _ in range(count):
            file, start, length = _next(numbers, 3)
            pieces.append(Piece(_next(numbers, dims), _next(numbers, dims), files[file], start, length))
        entries.append(Entry(paths[name], _DTYPES[content["kinds"][kind]], shape, tuple(pieces)))
    if len({entry.name for entry in entries}) < len(entries):
        raise ValueError("a tensor is listed twice")
    return entries


def _next(numbers: Iterator[int], count: int) -> tuple[int, ...]:
    found = tuple(islice(numbers, count))
    if len(found) < count:
        raise ValueError("its table is too short")
    return found


def _table(table: Any) -> list[int]:
    if not isinstance(table, Tensor) or table.dtype != torch.int64 or table.ndim != 1:
        raise ValueError("its table is not a vector of integers")
    if len(table) and (int(table.min()) < 0 or int(table.max()) >= _LARGEST):
        raise ValueError("its table has numbers that can't be sizes")
    found: list[int] = table.tolist()
    return found


def _paths(rest: Any) -> dict[str, Place]:
    """The places that tensors have left, by their names."""
    found: dict[str, Place] = {}

    def note(path: Place, value: Any) -> None:
        if value is None:
            found[name_of(path)] = path

    walked(rest, note)
    return found


def _check_sizes(folder: Path, entries: list[Entry]) -> None:
    """No tensor is larger than the bytes that are there for it, and each is covered."""
    ends = {name: (folder / name).stat().st_size for name in {p.file for e in entries for p in e.pieces}}
    for entry in entries:
        covered = 0
        for piece in entry.pieces:
            inside = all(o + n <= s for o, n, s in zip(piece.offset, piece.sizes, entry.shape, strict=True))
            if not inside or piece.start + piece.length > ends[piece.file]:
                raise ValueError(f"{entry.name} reaches beyond its end, or that of {piece.file}")
            if _product(piece.sizes) * entry.dtype.itemsize > piece.length:
                raise ValueError(f"{entry.name} claims more numbers than {piece.file} holds for it")
            covered += _product(piece.sizes)
        if covered != _product(entry.shape):
            raise ValueError(f"{covered} numbers of {entry.name} instead of {_product(entry.shape)}")
    claimed = sum(piece.length for entry in entries for piece in entry.pieces)
    if claimed > sum(ends.values()):
        raise ValueError(f"its tensors claim {claimed} bytes, but the files have {sum(ends.values())}")


def _product(sizes: tuple[int, ...]) -> int:
    count = 1
    for size in sizes:
        count *= size
    return count
