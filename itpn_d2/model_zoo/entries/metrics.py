"""Metrics as the families write them down."""

from ..entry import Metric, Origin


def top1(value: float, source: str, note: str = "") -> tuple[Metric, ...]:
    """A published accuracy on the validation set of ImageNet-1K."""
    return (Metric("top-1", value, "ImageNet-1K val", "quoted", source, note),)


def ap(
    source: str,
    box: float,
    mask: float | None = None,
    dataset: str = "COCO val2017",
    origin: Origin = "quoted",
    note: str = "",
) -> tuple[Metric, ...]:
    """Average precision of boxes and, where there are any, of masks."""
    named = {"box AP": box} if mask is None else {"box AP": box, "mask AP": mask}
    return tuple(Metric(name, value, dataset, origin, source, note) for name, value in named.items())
