"""In which order the images of a source are trained with."""

import itertools

from itpn_d2.data import ResumableBatchSampler


def order(source, world, start=0, batches=6):
    """The paths of each batch from ``start`` to ``batches``, those of all ``world`` processes in turn."""
    shares = [
        itertools.islice(ResumableBatchSampler(len(source), 4, 3, rank, world, start), batches - start)
        for rank in range(world)
    ]
    return [[source.path(i) for share in batch for _, i in share] for batch in zip(*shares, strict=True)]
