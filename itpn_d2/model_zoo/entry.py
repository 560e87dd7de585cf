"""The information about a model in the zoo."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from ..normalisation import ImageStatistics

Task = Literal[
    "instance_segmentation",
    "detection",
    "semantic_segmentation",
    "panoptic_segmentation",
    "keypoints",
    "classification",
    "pretraining",
]
TASKS: tuple[Task, ...] = get_args(Task)
Origin = Literal["measured here", "quoted"]
NONE_PUBLISHED = "none published"
_SCHEMES = ("https://", "http://", "hf://", "gdrive://", "package://")


@dataclass(frozen=True)
class Metric:
    """One number.

    Attributes:
        name: such as ``box AP``.
        value: as a rule in percent.
        dataset: what it was evaluated on.
        origin: whether this project measured it with this config, or quotes it from others, who trained with
            their own code.
        source: of a quoted number where it stands, of a measured one where its command stands.
        note: what the name does not say.
    """

    name: str
    value: float
    dataset: str
    origin: Origin
    source: str
    note: str = ""


@dataclass(frozen=True)
class Weights:
    """A file of weights that somebody published.

    Attributes:
        file: its name, also in the cache.
        publisher: who, and how.
        licence: under what terms, as far as they say.
        url: ``https://``, ``hf://`` or ``gdrive://``; ``package://`` of our own, which comes with the
            package; None if no address is known from which a program can download it: the file then has to be
            placed by hand.
        page: where people get it in a browser, besides.
        holds: what is in it: ``pre-training``, ``classifier``, ``detector`` or ``segmentor``.
        sha256: of its bytes in hexadecimals; None where unknown.
        aliases: other names under which the same file is passed on.
    """

    file: str
    publisher: str
    licence: str
    url: str | None = None
    sha256: str | None = None
    aliases: tuple[str, ...] = ()
    page: str | None = None
    holds: str = "pre-training"

    def __post_init__(self) -> None:
        for name in (self.file, *self.aliases):
            if not re.fullmatch(r"\w[\w.+-]*", name):
                raise ValueError(f"weights {name!r}: not a plain file name")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(
                f"{self.file}: sha256 {self.sha256!r} is not 64 hexadecimal digits in lower case"
            )
        if self.url is not None and not self.url.startswith(_SCHEMES):
            raise ValueError(f"{self.file}: url {self.url!r} is none of {', '.join(_SCHEMES)}")


@dataclass(frozen=True)
class Entry:
    """One model of the zoo.

    Attributes:
        config: path below ``configs/``.
        task: one of :data:`TASKS`.
        statistics: of the images the model takes.
        pretraining: what its weights start from; of a pre-training config: what it does.
        weights: the result of such a training; None: nobody has published it.
        start: published pre-trained weights that initialise the trunk (and the pyramid, where the file has
            one).
        metrics: numbers of the trained model.
        classes: names, where neither the config nor a dataset gives them.
        note: further remarks.
    """

    config: str
    task: Task
    statistics: ImageStatistics
    pretraining: str
    weights: Weights | None = None
    start: Weights | None = None
    metrics: tuple[Metric, ...] = ()
    classes: tuple[str, ...] = ()
    note: str = ""

    @property
    def name(self) -> str:
        """The config without its ending: ``COCO-InstanceSegmentation/mask_rcnn_fast_itpn_tiny_1x``."""
        return self.config.removesuffix(".py")

    @property
    def licence(self) -> str | None:
        """Of the weights; None without any."""
        return self.weights.licence if self.weights else None
