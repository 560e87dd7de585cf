"""The one exception of this package."""


class DatasetError(ValueError):
    """A dataset can't be used; the message names the file, the record and the remedy."""
