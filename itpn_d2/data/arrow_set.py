"""Positions of the images in the arrow files of one split of a Hugging Face dataset."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DatasetError
from ..files import cache_root
from .image_sources import Paths, PathTable
from .members import member_address
from .shards import ShardTable, kept_index, write_index

_IMAGES, _LABELS = ("image", "img"), ("label", "labels", "class")


@dataclass(frozen=True)
class ArrowSet:
    """One split of a set.

    Attributes:
        place: where it is stored, with its split, for messages.
        files: the arrow files.
        features: of ``datasets``, by the name of the column.
    """

    place: str
    files: tuple[str, ...]
    features: Mapping[str, Any]
    tables: tuple[Any, ...]  # one of pyarrow for each file
    starts: tuple[int, ...]  # where each file lies in memory

    def __len__(self) -> int:
        return sum(len(t) for t in self.tables)

    def image_column(self, given: str = "", others: Sequence[str] = ()) -> str:
        """The name of the column with the pictures; ``others`` are not them."""
        kinds = {name: type(feature).__name__ for name, feature in self.features.items()}
        found = [name for name, kind in kinds.items() if kind == "Image" and name not in others]
        found = [name for name in found if name in _IMAGES] or found
        found = found or [name for name in kinds if name in _IMAGES and name not in others]
        return self._one(given, found, "pictures", "image")

    def label_image_column(self, given: str, image: str) -> str:
        """The name of the column with label images, beside that of the pictures."""
        found = [n for n, f in self.features.items() if type(f).__name__ == "Image" and n != image]
        return self._one(given, found, "label images", "labels")

    def _one(self, given: str, found: Sequence[str], what: str, key: str) -> str:
        if given and given not in self.features:
            raise DatasetError(f"{self.place}: no column {given!r}; it has {', '.join(self.features)}")
        if not given and len(found) != 1:
            several = f"several columns of {what}" if found else f"no column of {what}"
            raise DatasetError(
                f"{self.place}: {several}; it has {', '.join(self.features)}. Set {key}=NAME of the dataset"
            )
        return given or found[0]

    def rows(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The values of some columns, row by row, as lists, dicts, texts and numbers."""
        for table in self.tables:
            for batch in table.select(list(columns)).to_batches(max_chunksize=1000):
                yield from batch.to_pylist()

    def pictures(self, column: str) -> Paths:
        """The address or the path of each row's picture; "" where there is none."""
        rows, files = self._located(column), self.files
        if bool((rows[:, 2] >= 0).all()):
            key = json.dumps([column, *([f, os.path.getsize(f), os.stat(f).st_mtime_ns] for f in files)])
            index = cache_root() / "shards" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npy"
            if kept_index(index) is None:
                write_index(index, rows, ())
            return ShardTable(files, index)
        return PathTable(self._addresses(column, rows))

    def _addresses(self, column: str, rows: np.ndarray) -> Iterator[str]:
        """Addresses of images that are not all stored in the files themselves."""
        folder = os.path.dirname(self.files[0])
        for (file, offset, size, _), row in zip(rows.tolist(), self.rows([column]), strict=True):
            if size >= 0:
                yield member_address(self.files[file], offset, size)
                continue
            value = row[column]
            path = value.get("path") if isinstance(value, Mapping) else value
            yield os.path.join(folder, path) if isinstance(path, str) and path else ""

    def _located(self, column: str) -> np.ndarray:
        """(number of the file, offset, size, -1) of each row's bytes; the size is -1 where it has none."""
        parts = [np.zeros((0, 4), np.int64)]
        for number, (table, start) in enumerate(zip(self.tables, self.starts, strict=True)):
            size = os.path.getsize(self.files[number])
            for chunk in table.column(column).chunks:
                offsets, sizes = self._bytes_of(chunk, column, start, size)
                file = np.full_like(offsets, number)
                parts.append(np.stack((file, offsets, sizes, np.full_like(offsets, -1)), axis=1))
        return np.concatenate(parts)

    def _bytes_of(self, chunk: Any, column: str, start: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        import pyarrow.types as types

        kind = chunk.type
        if types.is_struct(kind) and "bytes" in {kind.field(i).name for i in range(kind.num_fields)}:
            chunk = chunk.flatten()[kind.get_field_index("bytes")]
            kind = chunk.type
        nothing = np.full(len(chunk), -1, np.int64)
        if types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind):
            return nothing, nothing  # paths
        if not (types.is_binary(kind) or types.is_large_binary(kind)):
            raise DatasetError(
                f"{self.place}: column {column!r} is of {kind}, but must hold the bytes of images, or "
                "paths; cast it to datasets.Image() and save the dataset again"
            )
        _, lengths, data = chunk.buffers()
        if data is None or not data.size:
            return nothing, nothing
        place = data.address - start
        if not 0 <= place < size:
            raise DatasetError(
                f"{self.place}: its arrow files are compressed, so that images can't be read in place; "
                "load the dataset and save it again with save_to_disk"
            )
        number = np.int64 if types.is_large_binary(kind) else np.int32
        ends = np.frombuffer(lengths, number)[chunk.offset : chunk.offset + len(chunk) + 1].astype(np.int64)
        valid = chunk.is_valid().to_numpy(zero_copy_only=False)
        return place + ends[:-1], np.where(valid, np.diff(ends), -1)

    def labels(self, given: str = "") -> tuple[np.ndarray, tuple[str, ...]]:
        """Class numbers int32 ``(N,)`` and the names of the classes.

        Raises:
            DatasetError: there is no such column, or a row has no label.
        """
        named = [n for n, f in self.features.items() if type(f).__name__ == "ClassLabel"]
        named = [n for n in named if n in _LABELS] or named
        column = self._one(given, named or [n for n in self.features if n in _LABELS], "labels", "label")
        values = [row[column] for row in self.rows([column])]
        names = getattr(self.features[column], "names", None)
        if names is None:
            kinds = {str(v): v for v in values if v is not None}
            names = sorted(kinds, key=int if all(type(v) is int for v in kinds.values()) else None)
            number = {name: i for i, name in enumerate(names)}
            values = [None if v is None else number[str(v)] for v in values]
        bad = [i for i, v in enumerate(values) if not (isinstance(v, int) and 0 <= v < len(names))]
        if bad:
            raise DatasetError(
                f"{self.place}: {len(bad)} of its {len(values)} rows have no label in column {column!r}, "
                f"the first is number {bad[0]} ({values[bad[0]]}). Test sets on the hub often have no "
                "labels; use another split"
            )
        return np.array(values, np.int32), tuple(map(str, names))
