"""The one exception of this package."""

from ..checkpoint import CheckpointError


class ZooError(CheckpointError):
    """No such entry, no such weights, or a file that can't be had; the message names the remedy."""
