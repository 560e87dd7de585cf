"""A published number beside the one that the published weights reach here."""

from collections.abc import Sequence
from dataclasses import dataclass
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
    "keypoint AP": "keypoints/AP",
}
# the file of COCO's folder that the evaluation of a task reads
_ANNOTATIONS = {
    "detection": "annotations/instances_val2017.json",
    "instance_segmentation": "annotations/instances_val2017.json",
    "keypoints": "annotations/person_keypoints_val2017.json",
}
_IMAGES = "val2017"


@dataclass(frozen=True)
class Row:
    """A number that was measured, and the one that is quoted for it; None where nobody quotes one."""

    name: str
    measured: float
    quoted: Metric | None


def reproduce(
    name: str,
    data: str | Path,
    output: str | Path,
    weights: str | None = None,
    overrides: Sequence[str] = (),
) -> list[Row]:
    """Evaluate the weights of an entry as ``train_net.py --eval-only`` does.

    Args:
        data: of a classifier a folder with a folder for each class, or one that holds such a ``val``; of a
            detector COCO's folder, with ``annotations`` and ``val2017``.
        output: the folder of the evaluation, with its log and results.
        weights: None: what is published for the entry; else a file, or an address.
        overrides: ``key=value``, as on the command line.

    Returns:
        Every number of this kind that was measured: box AP and mask AP in percent, or top-1.

    Raises:
        ZooError: no such entry; no weights are published and none given; there are no such data; or a quoted
            number was not measured.
    """
    entry = get_entry(name)
    # before the data: are there weights at all?
    cfg = get_config(name, trained=weights is None, overrides=overrides)
    if weights is not None:
        cfg.train.init_checkpoint = weights
    cfg.train.output_dir, cfg.train.visualize.images = str(output), 0
    _use_data(cfg, entry, Path(data))
    results = flatten(Run(cfg, evaluate_only=True).evaluate())
    quoted = {m.name: m for m in entry.metrics if m.name in _MEASURED}
    measured = {name: results[key] for name, key in _MEASURED.items() if key in results}
    for lacking in quoted.keys() - measured.keys():
        raise ZooError(f"{entry.name}: the evaluation did not measure {lacking}, only {', '.join(results)}")
    return [Row(name, value, quoted.get(name)) for name, value in measured.items()]


def table(name: str, rows: Sequence[Row]) -> str:
    """The numbers of the model ``name`` side by side."""
    lines = [f"{'':11} {'measured':>9} {'quoted':>9} {'apart':>7}"]
    for row in rows:
        lines.append(f"{row.name:11} {row.measured:9.2f}")
        if row.quoted is not None:
            lines[-1] += f" {row.quoted.value:9.2f} {row.measured - row.quoted.value:+7.2f}"
        else:
            lines[-1] += f" {'none':>9}"
    sources = dict.fromkeys((r.quoted.dataset, r.quoted.source) for r in rows if r.quoted is not None)
    lines += [f"quoted: {dataset}, {source}" for dataset, source in sources]
    return "\n".join(lines if sources else [*lines, f"there is no quoted number to compare {name} with"])


def _use_data(cfg: DictConfig, entry: Entry, data: Path) -> None:
    """Let the config evaluate on validation data of another place.

    Raises:
        ZooError: they are not there, or the model is not evaluated on such data.
    """
    if not data.is_dir():
        raise ZooError(f"--data {data}: no such folder")
    if entry.task == "classification":
        folder = data / "val" if (data / "val").is_dir() else data
        cfg.dataset.val.images = str(folder)
        cfg.dataset.train.images = ""  # the classes are those of the validation set
    elif entry.task in _ANNOTATIONS and entry.config.startswith("COCO-"):
        json = _ANNOTATIONS[entry.task]
        for part in (json, _IMAGES):
            if not (data / part).exists():
                raise ZooError(f"--data {data}: has no {part}; give the folder of COCO 2017")
        cfg.dataset.val = LazyCall(register_coco)(
            name="reproduced_val", json=str(data / json), images=str(data / _IMAGES), verify_images="none"
        )
    else:
        of = f"its number is of {entry.metrics[0].dataset}" if entry.metrics else f"its task is {entry.task}"
        raise ZooError(
            f"{entry.name}: {of}, but --data supports only classifiers on ImageNet and detectors on COCO; "
            "evaluate with train_net.py --eval-only"
        )
