"""The entries as text: ``MODEL_ZOO.md``, and lines for the terminal."""

from .entries import ENTRIES, WEIGHTS
from .entry import NONE_PUBLISHED, TASKS, Entry, Metric, Task, Weights

COMMAND = "python -m itpn_d2.model_zoo table MODEL_ZOO.md"
_TITLES: dict[Task, str] = {
    "instance_segmentation": "Instance segmentation",
    "detection": "Detection",
    "semantic_segmentation": "Semantic segmentation",
    "panoptic_segmentation": "Panoptic segmentation",
    "keypoints": "Keypoints",
    "classification": "Classification",
    "pretraining": "Pre-training",
}
_HEAD = f"""# Model zoo

<!-- Written by `{COMMAND}` from itpn_d2/model_zoo/entries/; do not edit it by hand. -->

Every config of this project, with the weights that are known for it:

- **start** is the file of pre-trained weights that training starts from: a trunk, and a pyramid where the
  file has one.
- **weights** is the file of the trained model, if one has been published.
- **numbers** were *measured here*, with the named config, or are *quoted*: others measured them, with their
  own code and weights. A quoted number says what a recipe can reach, not what this code has reached;
  `python -m itpn_d2.model_zoo reproduce NAME --data DIR` evaluates weights and prints the result beside it.

`itpn://FILE` can be given wherever a checkpoint is expected; the file is downloaded when it is first used.
`package://` names weights in this package, `hf://org/repo[@revision]/file` a file on the Hugging Face hub,
and `gdrive://ID` a file on Google Drive. `itpn_d2.create_model(NAME, weights=True)` and
`timm.create_model(NAME, pretrained=True)` load the pre-training of a variant.
[docs/weights.md](docs/weights.md) describes how to load whole models from the hub and publish them there.

Except for those of `package://`, no file was opened while this project was developed, and no checksums have
been published: the SHA-256 of the first download is recorded in `digests.json` in the cache, and every later
download must have the same. If a download fails, or an address only works in a browser, `python -m
itpn_d2.model_zoo download NAME` states the folder in which to place the file.

```python
import cv2
from itpn_d2 import Predictor, model_zoo

model_zoo.list(task="detection")
cfg = model_zoo.get_config("mask_rcnn_fast_itpn_base_1x")
backbone = model_zoo.get_backbone("fast_itpn_base", weights="itpn://fast_itpn_base_clipl_e1600.pt")
predict = Predictor("Quickstart/mask_rcnn_fast_itpn_nano", weights="output/quickstart/model_final.pth")
instances = predict(cv2.imread("scene.png"))["instances"]
```
"""


def document() -> str:
    """The whole of ``MODEL_ZOO.md``."""
    return "\n".join([_HEAD, *(_section(task) for task in TASKS), _files()])


def _section(task: Task) -> str:
    entries = sorted((e for e in ENTRIES.values() if e.task == task), key=lambda e: e.name)
    sources = list(dict.fromkeys(_source(m) for e in entries for m in e.metrics))
    notes = list(dict.fromkeys(e.note for e in entries if e.note))
    rows = ["| config | images | pre-training | start | weights | numbers |", "|---|---|---|---|---|---|"]
    for entry in entries:
        marks = [f"<sup>{_letter(notes.index(entry.note))}</sup>"] if entry.note else []
        cells = (
            " ".join([f"[{entry.name}](configs/{entry.config})", *marks]),
            entry.statistics.name,
            entry.pretraining,
            f"`{entry.start.file}`" if entry.start else "",
            f"`{entry.weights.file}`" if entry.weights else NONE_PUBLISHED,
            ", ".join(f"{_number(m)} [{sources.index(_source(m)) + 1}]" for m in entry.metrics),
        )
        rows.append("| " + " | ".join(cells) + " |")
    lines = [f"## {_TITLES[task]}", "", *rows, ""]
    lines += [f"[{i}] {source}  " for i, source in enumerate(sources, 1)]
    lines += [f"<sup>{_letter(i)}</sup> {note}  " for i, note in enumerate(notes)]
    return "\n".join([line.rstrip() + "<br>" if line.endswith("  ") else line for line in lines]) + "\n"


def _files() -> str:
    found = {w.file: w for w in WEIGHTS.values()}
    rows = ["## Files", "", "| file | holds | address | for people | sha256 | publisher | licence |"]
    rows.append("|---|---|---|---|---|---|---|")
    for weights in sorted(found.values(), key=lambda w: w.file):
        names = " = ".join(f"`{name}`" for name in (weights.file, *weights.aliases))
        address, digest = weights.url or "none known", weights.sha256 or "none published"
        cells = (
            names,
            weights.holds,
            address,
            weights.page or "",
            digest,
            weights.publisher,
            weights.licence,
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def show(entry: Entry) -> str:
    """All that is known of one entry."""
    statistics = f"{entry.statistics.name}: mean {entry.statistics.mean}, std {entry.statistics.std} of RGB"
    lines = [
        ("config", f"configs/{entry.config}"),
        ("task", entry.task),
        ("images", statistics),
        ("pre-training", entry.pretraining),
        *_weights_lines("weights", entry.weights),
        *(_weights_lines("start", entry.start) if entry.start else []),
        *(("number", f"{_number(m)} on {_source(m)}") for m in entry.metrics),
        *([("classes", ", ".join(entry.classes))] if entry.classes else []),
        *([("note", entry.note)] if entry.note else []),
    ]
    return "\n".join([entry.name, *(f"{name:>13}  {value}" for name, value in lines)])


def summary(entry: Entry) -> str:
    """One line."""
    weights = entry.weights.file if entry.weights else NONE_PUBLISHED
    numbers = ", ".join(f"{_number(m)} ({m.origin})" for m in entry.metrics)
    return f"{entry.name:62} {weights:45} {numbers}".rstrip()


def _weights_lines(name: str, weights: Weights | None) -> list[tuple[str, str]]:
    if weights is None:
        return [(name, NONE_PUBLISHED)]
    also = f" (also {', '.join(weights.aliases)})" if weights.aliases else ""
    return [
        (name, f"itpn://{weights.file}{also}"),
        ("address", weights.url or f"none known: {weights.publisher}"),
        ("sha256", weights.sha256 or "unknown"),
        ("licence", weights.licence),
    ]


def _number(metric: Metric) -> str:
    return f"{metric.value:.2f}".removesuffix("0") + f" {metric.name}"


def _source(metric: Metric) -> str:
    note = f" ({metric.note})" if metric.note else ""
    return f"{metric.dataset}, {metric.origin}: {metric.source}{note}"


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else f"n{index}"
