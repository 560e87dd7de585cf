"""The one exception of this package."""


class CheckpointError(ValueError):
    """A checkpoint can't be used; the message names the file, the reason and the remedy."""
