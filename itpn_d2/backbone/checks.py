"""Checks of the sizes that a network can have; errors name the argument."""

from collections.abc import Sequence


def check_sizes(least: int = 1, **sizes: int | Sequence[int]) -> None:
    """Raises ValueError unless each is a whole number of at least ``least``, or a list of such."""
    for name, given in sizes.items():
        values = list(given) if not isinstance(given, int | float) else [given]
        if not values or any(isinstance(v, bool) or int(v) != v or v < least for v in values):
            raise ValueError(f"{name}={given}: choose whole numbers of at least {least}")


def check_positive(**values: float | None) -> None:
    """Raises ValueError unless each is greater than 0; None is not checked."""
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name}={value}: choose a number greater than 0")


def check_rate(**rates: float) -> None:
    """Raises ValueError unless each is a probability below 1."""
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise ValueError(f"{name}={rate}: choose a rate of at least 0 and below 1")
