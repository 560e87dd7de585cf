"""Rules of the published implementations that differ from ours, where ours are better.

Networks that were trained with such a rule have learnt from it, so a published checkpoint, and a test against
one, needs it: ``reference="detrex" | "dino" | "maskdino"``. It is never the default. Choices that are merely
different are options of the part that they concern; ``docs/dino.md`` lists both kinds.
"""

from dataclasses import dataclass
from typing import Literal

Name = Literal["detrex", "dino", "maskdino"]


@dataclass(frozen=True)
class Reference:
    """One set of rules; without arguments ours.

    Attributes:
        name: whose rules they are; None: ours.
        padding_in_training, padding_in_evaluation: the padding of a batch is told apart from its images. If
            not, it is part of them: it is attended to, and boxes are fractions of the padded batch.
        counted_cells: the size of an image on a level is the number of cells whose nearest pixel lies in it,
            and a cell's place is its number over theirs. Ours: pixels, so that places are the same on all
            levels.
        padded_positions: what a query's position is made of are fractions of the first level with its
            padding. Ours: of the image.
        silent_tokens: cells that propose nothing (padding, the image's border, a proposal as large as the
            image) share a score, may be chosen for it, and then propose the box (1, 1, 1, 1). Ours: they are
            chosen last, if there are too few others.
        logit_eps: between layers boxes are fractions, kept this far away from 0 and 1. None, ours: logits,
            which need no bound.
        boxes_of_empty_masks: a query whose mask is empty starts with what the formula of a box around a mask
            makes of nothing. Ours: with the box of its token.
        unused_hidden: de-noising queries that only fill up an image with fewer objects than another are
            masked from attention. If not, the queries of their group attend to them.
        batch_results: final boxes are fractions of the padded batch. With detrex, which does not distinguish
            padding either, they are still taken as fractions of the image.
        clip_boxes: predicted boxes are clipped to the image.
        drop_empty: boxes without an area and instances without a mask are left out.
    """

    name: Name | None = None
    padding_in_training: bool = True
    padding_in_evaluation: bool = True
    counted_cells: bool = False
    padded_positions: bool = False
    silent_tokens: bool = False
    logit_eps: float | None = None
    boxes_of_empty_masks: bool = False
    unused_hidden: bool = True
    batch_results: bool = False
    clip_boxes: bool = True
    drop_empty: bool = True

    def sees_padding(self, training: bool) -> bool:
        """Whether padding is distinguished from the images."""
        return self.padding_in_training if training else self.padding_in_evaluation


OURS = Reference()
_DETREX = Reference(
    name="detrex",
    padding_in_evaluation=False,
    counted_cells=True,
    padded_positions=True,
    silent_tokens=True,
    logit_eps=1e-3,
    unused_hidden=False,
)
_DINO = Reference(
    name="dino",
    counted_cells=True,
    padded_positions=True,
    silent_tokens=True,
    logit_eps=1e-3,
    unused_hidden=False,
    clip_boxes=False,
    drop_empty=False,
)
_MASK_DINO = Reference(
    name="maskdino",
    padding_in_training=False,
    padding_in_evaluation=False,
    counted_cells=True,
    padded_positions=True,
    silent_tokens=True,
    logit_eps=1e-5,
    boxes_of_empty_masks=True,
    unused_hidden=False,
    batch_results=True,
    clip_boxes=False,
    drop_empty=False,
)
_BY_NAME = {"detrex": _DETREX, "dino": _DINO, "maskdino": _MASK_DINO}


def reference_of(rules: "Reference | Name | None") -> Reference:
    """The rules of that name (None: ours); a :class:`Reference` is returned as it is.

    Raises:
        ValueError: there are no rules of that name.
    """
    if isinstance(rules, Reference):
        return rules
    if rules is None:
        return OURS
    if rules not in _BY_NAME:
        raise ValueError(
            f"reference {rules!r}: choose {', '.join(_BY_NAME)}, or None for this project's own rules"
        )
    return _BY_NAME[rules]
