"""A published number beside the one that the published weights reach here."""

from collections.abc import Sequence
from pathlib import Path

from detectron2.config import LazyCall
from omegaconf import DictConfig

from ..data import register_coco
from ..engine import Run
from ..errors import ZooError
from ..evaluation.results import flatten
from .entry import Entry, Metric
from .registry import get_entry
from .zoo import get_config

# the names of quoted numbers among those that an evaluation measures
_MEASURED = {
    "top-1": "classification/top1",
    "box AP": "bbox/AP",
    "mask AP": "segm/AP",
    "mIoU": "sem_seg/mIoU",
    "PQ": "panoptic_seg/PQ",
}
_ANNOTATIONS, _IMAGES = "annotations/instances_val2017.json", "val2017"


def reproduce(
    name: str,
    data: str | Path,
    output: str | Path,
    weights: str | None = None,
    overrides: Sequence[str] = (),
) -> list[tuple[Metric, float]]:
    """Evaluate the weights of an entry as ``train_net.py --eval-only`` does.

    Args:
        data: of a classifier a folder with a folder for each class, or one that holds such a ``val``; of a
            detector COCO's folder, with ``annotations`` and ``val2017``.
        output: the folder of the evaluation, with its log and results.
        weights: None: what is published for the entry; else a file, or an address.
        overrides: ``key=value``, as on the command line.

    Returns:
        The quoted numbers, each with what was measured.

    Raises:
        ZooError: no such entry; nobody quotes a number for it that is measured here; no weights are
            published and none given; or there are no such data.
    """
    entry = get_entry(name)
    quoted = [m for m in entry.metrics if m.name in _MEASURED]
    if not quoted:
        raise ZooError(f"{entry.name}: has no quoted number to compare with")
    # before the data: are there weights at all?
    cfg = get_config(name, trained=weights is None, overrides=overrides)
    if weights is not None:
        cfg.train.init_checkpoint = weights
    cfg.train.output_dir, cfg.train.visualize.images = str(output), 0
    _use_data(cfg, entry, Path(data))
    measured = flatten(Run(cfg, evaluate_only=True).evaluate())
    lacking = [m.name for m in quoted if _MEASURED[m.name] not in measured]
    if lacking:
        raise ZooError(f"{entry.name}: the evaluation measured no {lacking[0]}: {', '.join(measured)}")
    return [(metric, measured[_MEASURED[metric.name]]) for metric in quoted]


def table(rows: Sequence[tuple[Metric, float]]) -> str:
    """The numbers side by side."""
    lines = [f"{'':10} {'measured':>9} {'quoted':>9} {'apart':>7}"]
    for metric, value in rows:
        lines.append(f"{metric.name:10} {value:9.2f} {metric.value:9.2f} {value - metric.value:+7.2f}")
    return "\n".join([*lines, f"quoted: {rows[0][0].dataset}, {rows[0][0].source}"])


def _use_data(cfg: DictConfig, entry: Entry, data: Path) -> None:
    """Let the config evaluate on validation data of another place.

    Raises:
        ZooError: they are not there.
    """
    if not data.is_dir():
        raise ZooError(f"--data {data}: no such folder")
    if entry.task == "classification":
        folder = data / "val" if (data / "val").is_dir() else data
        cfg.dataset.val.images = str(folder)
        cfg.dataset.train.images = ""  # the classes are those of the validation set
    elif entry.task in ("detection", "instance_segmentation") and entry.config.startswith("COCO-"):
        for part in (_ANNOTATIONS, _IMAGES):
            if not (data / part).exists():
                raise ZooError(f"--data {data}: has no {part}; give the folder of COCO 2017")
        json, images = str(data / _ANNOTATIONS), str(data / _IMAGES)
        cfg.dataset.val = LazyCall(register_coco)(
            name="reproduced_val", json=json, images=images, verify_images="none"
        )
    else:
        raise ZooError(
            f"{entry.name}: its number is of {entry.metrics[0].dataset}, which --data does not know; "
            f"evaluate with train_net.py --eval-only"
        )
