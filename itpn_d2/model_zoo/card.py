"""``README.md`` of published weights: the page that the hub shows for a model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

_TAGS = {
    "trunk": "image-feature-extraction",
    "backbone": "image-feature-extraction",
    "classifier": "image-classification",
    "detector": "object-detection",
}


@dataclass(frozen=True)
class Card:
    """Information about published weights.

    Attributes:
        licence: its identifier (``apache-2.0``); ``other`` where it has none.
        title: '' for the kind of model.
        data: what they were trained on.
        metrics: measured numbers by their names.
        note: further remarks.
    """

    licence: str = "other"
    title: str = ""
    data: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


def write_card(card: Card, kind: str, what: str, classes: int | None, address: str) -> str:
    """The text.

    Args:
        what: the network, in a few words.
        classes: how many it knows.
        address: by which it is loaded: a folder or ``org/name``.
    """
    # json is yaml, and leaves nothing of a text to be read as more than a text
    head = {"library_name": "itpn_d2", "license": card.licence, "pipeline_tag": _TAGS[kind]}
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---", ""]
    lines += [f"# {_line(card.title) or kind.capitalize()}", "", f"A {kind} of itpn_d2: {_line(what)}."]
    if classes is not None:
        lines[-1] += f" It knows {classes} classes, see `config.json`."
    lines += ["", f"- **Data:** {_line(card.data) or 'not stated'}", f"- **Licence:** {_line(card.licence)}"]
    lines += [f"- **{_line(name)}:** {value:.2f}" for name, value in card.metrics.items()]
    lines += ["", _line(card.note)] if card.note else []
    quoted = json.dumps(address, ensure_ascii=False)
    lines += ["", "## Use", "", "```python"]
    if kind == "detector":
        lines += [
            "from itpn_d2 import Predictor",
            "",
            f"predict = Predictor.from_pretrained({quoted})",
            'found = predict("image.jpg")',
        ]
    else:
        lines += ["from itpn_d2 import model_zoo", "", f"model = model_zoo.from_pretrained({quoted}).eval()"]
    return "\n".join([*lines, "```", ""])


def _line(text: str) -> str:
    return " ".join(str(text).split())
