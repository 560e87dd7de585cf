"""Many records in two arrays."""

import pickle
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np


class RecordTable(Sequence[dict[str, Any]]):
    """Read-only sequence of records, held as one block of bytes and the offset of each record in it; what is
    read is a copy. As of :class:`.PathTable`, forked workers share the arrays, and processes of a machine may
    map them from one file (:func:`.read_once`).
    """

    def __init__(self, records: Iterable[dict[str, Any]]):
        data, offsets = bytearray(), array("q", [0])
        for record in records:
            data += pickle.dumps(record, pickle.HIGHEST_PROTOCOL)
            offsets.append(len(data))
        self._data = np.frombuffer(data, dtype=np.uint8)
        self._offsets = np.frombuffer(offsets, dtype=np.int64)
        self._chosen = np.arange(len(self._offsets) - 1)

    def __len__(self) -> int:
        return len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> "RecordTable": ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._with(self._chosen[index])
        place = self._chosen[index]  # an IndexError where there is none
        start, end = self._offsets[place : place + 2].tolist()
        return pickle.loads(self._data[start:end].data)

    def take(self, indices: Iterable[int]) -> "RecordTable":
        """Some of the records, in this order; the bytes stay where they are."""
        return self._with(self._chosen[np.fromiter(indices, dtype=np.int64)])

    def _with(self, chosen: np.ndarray) -> "RecordTable":
        found = RecordTable(())
        found._data, found._offsets, found._chosen = self._data, self._offsets, chosen
        return found
