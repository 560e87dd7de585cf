"""Which query of which layer has which object, on the device, for many layers at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...layers import upload
from .structures import Match, Targets


@dataclass(frozen=True)
class Assignment:
    """Matches of P layers with m pairs each, the same number for every image of every layer.

    Attributes:
        places: ``(P, m)`` int64, numbers of the queries in ``(P, B, Q)`` flattened.
        queries: ``(P, m)`` int64, their numbers within their image.
        objects: ``(P, m)`` int64, numbers of the objects among those of all images.
        counts: how many of the m pairs are of each image; they come one image after another.
        size: B * Q.
    """

    places: Tensor
    queries: Tensor
    objects: Tensor
    counts: list[int]
    size: int

    def __len__(self) -> int:
        return len(self.places)

    @classmethod
    def of(
        cls,
        matches: Sequence[Sequence[Sequence[Match]]],
        targets: Sequence[Targets],
        queries: Sequence[int],
        device: torch.device,
    ) -> list["Assignment"]:
        """Several assignments, each of some layers; they go to the device in one copy.

        Args:
            matches: for each assignment, layer and image, on the CPU.
            queries: Q of each assignment.
        """
        starts = torch.tensor([0, *(len(t) for t in targets)]).cumsum(0).tolist()
        tables, shapes = [], []
        for matched, number in zip(matches, queries, strict=True):
            rows = []
            for layer, images in enumerate(matched):
                for image, (inside, objects) in enumerate(images):
                    first = (layer * len(images) + image) * number
                    rows.append(torch.stack((inside + first, inside, objects + starts[image])))
            tables.append(torch.cat(rows, 1))
            shapes.append((len(matched), [len(inside) for inside, _ in matched[0]]))
        parts = upload(torch.cat(tables, 1), device).split([t.shape[1] for t in tables], 1)
        found = []
        for part, (layers, sizes), number in zip(parts, shapes, queries, strict=True):
            places, inside, objects = part.unflatten(1, (layers, sum(sizes)))
            found.append(cls(places, inside, objects, sizes, len(sizes) * number))
        return found

    def expand(self, layers: int) -> "Assignment":
        """Those of one layer for several that are matched alike."""
        shift = self.size * torch.arange(layers, device=self.places.device)[:, None]
        queries, objects = (x.expand(layers, -1) for x in (self.queries, self.objects))
        return Assignment(self.places + shift, queries, objects, self.counts, self.size)


def gather_targets(targets: Sequence[Targets]) -> Targets:
    """The objects of all images, one after another."""
    masks = [t.masks for t in targets if t.masks is not None]
    return Targets(
        torch.cat([t.classes for t in targets]),
        torch.cat([t.boxes for t in targets]),
        torch.cat(masks) if masks else None,
    )
