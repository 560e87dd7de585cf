"""Panoptic quality of each class and image (Kirillov et al., Panoptic Segmentation, section 4)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data.labels import read_segment_colours, segment_ids
from .ranking import Ranking

Record = dict[str, Any]
Segments = tuple[np.ndarray, Sequence[Mapping[str, Any]]]
_Class = tuple[bool, int]  # is it a thing, and its number among things or stuff
_NONE = 0  # the id of pixels without a segment


def true_segments(record: Record) -> Segments:
    """Ids ``(H, W)`` of a record's PNG, and what it says of them."""
    return segment_ids(read_segment_colours(record["pan_seg_file_name"])), record["segments"]


@dataclass
class _Tally:
    matched: int = 0
    overlap: float = 0.0  # sum of the IoU of what is matched
    missed: int = 0
    wrong: int = 0

    def add(self, other: "_Tally") -> None:
        self.matched += other.matched
        self.overlap += other.overlap
        self.missed += other.missed
        self.wrong += other.wrong

    def quality(self) -> tuple[float, float, float]:
        """PQ, SQ and RQ; nan where there is nothing to find and nothing was found."""
        weight = self.matched + (self.missed + self.wrong) / 2
        if not weight:
            return float("nan"), float("nan"), float("nan")
        return (
            self.overlap / weight,
            self.overlap / self.matched if self.matched else 0.0,
            self.matched / weight,
        )


class PanopticCounts:
    """Matched, missed and wrong segments of each class.

    Args:
        things, stuff: names of the classes, as segments number them.
        keep: images of either kind whose prediction is kept.

    Attributes:
        ranking: images by PQ, mean of the classes in them; with the predicted segments.
    """

    def __init__(self, things: Sequence[str], stuff: Sequence[str], keep: int):
        self.names = {(True, i): name for i, name in enumerate(things)}
        self.names |= {(False, i): name for i, name in enumerate(stuff)}
        self.ranking = Ranking(keep)
        self._tallies: dict[_Class, _Tally] = defaultdict(_Tally)

    def add(self, file: str, truth: Segments, found: Segments) -> None:
        """One image: ids ``(H, W)``, and ``id``, ``isthing``, ``category_id``, perhaps ``iscrowd`` of each.

        Raises:
            ValueError: their sizes differ.
        """
        if truth[0].shape != found[0].shape:
            raise ValueError(
                f"{file}: predicted {found[0].shape} pixels, but the labels have {truth[0].shape}"
            )
        own = _image_tallies(truth, found)
        for key, tally in own.items():
            self._tallies[key].add(tally)
        if own:
            kept = found[0].astype(np.int32), [dict(s) for s in found[1]]
            self.ranking.add(float(np.mean([t.quality()[0] for t in own.values()])), file, kept)

    def merge(self, other: "PanopticCounts") -> None:
        """Take what another process has counted."""
        for key, tally in other._tallies.items():
            self._tallies[key].add(tally)
        self.ranking.merge(other.ranking)

    def rows(self) -> list[Record]:
        """``name``, ``kind``, true ``segments``, ``PQ``, ``SQ``, ``RQ`` in percent, and ``matched``,
        ``missed``, ``wrong`` segments of each class that is there or was found."""
        rows = []
        for key, name in self.names.items():
            if key not in self._tallies:
                continue
            tally = self._tallies[key]
            pq, sq, rq = (100 * value for value in tally.quality())
            rows.append(
                {
                    "name": name,
                    "kind": "thing" if key[0] else "stuff",
                    "segments": tally.matched + tally.missed,
                    "PQ": pq,
                    "SQ": sq,
                    "RQ": rq,
                    "matched": tally.matched,
                    "missed": tally.missed,
                    "wrong": tally.wrong,
                }
            )
        return rows


def _image_tallies(truth: Segments, found: Segments) -> dict[_Class, _Tally]:
    true = {s["id"]: s for s in truth[1] if not s.get("iscrowd")}
    crowds = {_class(s): s["id"] for s in truth[1] if s.get("iscrowd")}
    predicted = {s["id"]: s for s in found[1]}
    pairs, counts = np.unique(np.stack((truth[0].ravel(), found[0].ravel())), axis=1, return_counts=True)
    both = {(int(t), int(f)): int(n) for (t, f), n in zip(pairs.T, counts, strict=True)}
    areas: tuple[dict[int, int], dict[int, int]] = defaultdict(int), defaultdict(int)
    for ids, number in both.items():
        for area, i in zip(areas, ids, strict=True):
            area[i] += number
    tallies: dict[_Class, _Tally] = defaultdict(_Tally)
    hits, used = set(), set()
    for (t, f), number in both.items():
        if t not in true or f not in predicted or _class(true[t]) != _class(predicted[f]):
            continue
        # pixels that belong to nothing are no fault of the prediction
        overlap = number / (areas[0][t] + areas[1][f] - number - both.get((_NONE, f), 0))
        if overlap > 0.5:  # so that no second one can match
            tallies[_class(true[t])].add(_Tally(matched=1, overlap=overlap))
            hits.add(t)
            used.add(f)
    for t in true.keys() - hits:
        tallies[_class(true[t])].missed += 1
    for f in predicted.keys() - used:
        excused = both.get((_NONE, f), 0) + both.get((crowds.get(_class(predicted[f]), _NONE - 1), f), 0)
        if 2 * excused <= areas[1][f]:
            tallies[_class(predicted[f])].wrong += 1
    return dict(tallies)


def _class(segment: Mapping[str, Any]) -> _Class:
    return bool(segment["isthing"]), int(segment["category_id"])
