"""The other sections, and the two kinds of config that they make.

Of sections whose nodes are calls (``dataloader.train``, ``optimizer``, ...) the ranges of the common
arguments stand here; any other argument is checked against its target.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from ...solver.batch_rule import Rule
from .run import Pretraining, Training
from .values import (
    Call,
    Count,
    Decay,
    Decoder,
    Fraction,
    Given,
    Names,
    Number,
    Pair,
    Pixels,
    Positive,
    Rate,
    Section,
    Seed,
    Share,
    Text,
    Whole,
    Workers,
)


class Image(Section):
    """Sizes of images in pixels; each kind of data has some of these keys."""

    short_sides: Annotated[list[Pixels], Field(min_length=1)] = [800]
    test_short_side: Pixels = 800
    max_size: Pixels = 1333
    crop: Annotated[list[Pixels], Field(min_length=2, max_length=2)] | None = None
    size: Pixels = 224
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 0.875
    crop_mode: Literal["center", "squash", "border"] = "center"


class Views(Section):
    """``dataloader.test_views``: scaled and mirrored views of an image whose predictions are merged."""

    enabled: bool = False
    scales: Annotated[list[Positive], Field(min_length=1)] = [1.0]
    flip: bool = True


class Loader(Call):
    """``dataloader.train``, ``test`` and ``val_loss``: calls that make a loader."""

    mapper: Given = {}
    total_batch_size: Count = 16
    reference_batch: Count | None = Field(
        default=None, description="batch size for which the learning rate was chosen; null: it is not scaled"
    )
    reference_rule: Rule = Field(
        default="linear", description="how the rate is scaled with the batch size: linear or sqrt"
    )
    batch_size: Count = 1
    num_workers: Workers = 2
    seed: Seed = 0
    start_iter: Number = 0
    repeat_threshold: Share | None = None
    min_keypoints: Number = 0
    max_images: Count | None = None


class Dataloader(Section):
    """``dataloader`` of a training."""

    decoder: Decoder = Field(
        default="auto", description="library that decodes and resizes images; see docs/data.md"
    )
    image: Image = Image()
    test_views: Views = Views()
    train: Loader
    test: Loader
    val_loss: Loader | None = None
    evaluator: Call


class Images(Section):
    """``dataloader.train`` of a pre-training, whose loader is the run's own."""

    view: Call
    total_batch_size: Count
    reference_batch: Count | None = Field(
        default=None, description="batch size for which the learning rate was chosen; null: it is not scaled"
    )
    reference_rule: Rule = Field(
        default="linear", description="how the rate is scaled with the batch size: linear or sqrt"
    )
    num_workers: Workers = 0


class PretrainDataloader(Section):
    """``dataloader`` of a pre-training."""

    decoder: Decoder = Field(
        default="auto", description="library that decodes and resizes images; see docs/data.md"
    )
    train: Images


class Set(Call):
    """``dataset.train`` and ``dataset.val``: calls that register a dataset and return its name."""

    name: Text = "dataset"
    num_images: Count = 1
    size: Annotated[Whole, Field(ge=32)] = 32
    seed: Seed = 0


class Dataset(Section):
    """``dataset`` of a training: its sets, and what is known of their classes and keypoints."""

    train: Set | None = None
    val: Set | None = None
    num_classes: Count | None = None
    class_names: Names | None = None
    num_semantic_classes: Count | None = None
    semantic_class_names: Names | None = None
    num_keypoints: Count | None = None
    keypoint_flip: list[Number] | None = None
    classes: str | Names | None = None


class PretrainDataset(Section):
    """``dataset`` of a pre-training, which needs no other set."""

    train: Set


class Parameters(Call):
    """``optimizer.params``: the call that makes the parameter groups."""

    lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0


class Optimizer(Call):
    """``optimizer``: the call that makes the optimizer."""

    params: Parameters
    lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Decay = 0.9
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)] = [
        0.9,
        0.999,
    ]
    eps: Annotated[float, Field(ge=0)] = 1e-8


class Multiplier(Call):
    """``lr_multiplier.scheduler``: what the learning rate is multiplied with over the run."""

    value: Rate = 1.0
    start_value: Rate = 1.0
    end_value: Rate = 0.0
    values: list[Rate] = []


class Schedule(Call):
    """``lr_multiplier``: a schedule with a warm-up before it."""

    scheduler: Multiplier | None = Field(
        default=None, description="schedule of the learning rate over the run"
    )
    warmup_length: Share = Field(default=0.0, description="length of the warm-up, as a fraction of the run")
    warmup_factor: Share = 0.0


class Proposals(Call):
    """``model.proposal_generator``: Detectron2's RPN."""

    batch_size_per_image: Count = 256
    positive_fraction: Fraction = 0.5
    nms_thresh: Fraction = 0.7
    pre_nms_topk: Pair = [2000, 1000]
    post_nms_topk: Pair = [1000, 1000]


class BoxPredictor(Call):
    """``model.roi_heads.box_predictor``: Detectron2's ``FastRCNNOutputLayers``."""

    test_score_thresh: Share = 0.05
    test_nms_thresh: Fraction = 0.5
    test_topk_per_image: Annotated[Whole, Field(ge=-1)] = 100


class RoIHeads(Call):
    """``model.roi_heads``: Detectron2's ``StandardROIHeads`` or ``CascadeROIHeads``."""

    num_classes: Count | None = None
    batch_size_per_image: Count = 512
    positive_fraction: Fraction = 0.25
    box_predictor: BoxPredictor | None = None
    box_predictors: list[BoxPredictor] = []


class Model(Call):
    """Numbers of Detectron2's parts, which Detectron2 itself does not check."""

    proposal_generator: Proposals | None = None
    roi_heads: RoIHeads | None = None
    test_score_thresh: Share = 0.05
    test_nms_thresh: Fraction = 0.5
    test_topk_candidates: Count = 1000
    max_detections_per_image: Count = 100
    pixel_mean: Annotated[list[float], Field(min_length=1)] = [0.0]
    pixel_std: Annotated[list[Positive], Field(min_length=1)] = [1.0]
    input_format: Literal["RGB", "BGR"] = "RGB"


class Config(Section):
    """A whole config of train_net.py."""

    model_config = ConfigDict(extra="ignore")  # a .py config may have helpers of its own beside the sections
    model: Model
    dataset: Dataset
    dataloader: Dataloader
    optimizer: Optimizer
    lr_multiplier: Schedule
    train: Training


class PretrainConfig(Config):
    """A whole config of pretrain."""

    dataset: PretrainDataset  # type: ignore[assignment]
    dataloader: PretrainDataloader  # type: ignore[assignment]
    train: Pretraining  # type: ignore[assignment]


SECTIONS = tuple(Config.model_fields)


def kind_of(content: Mapping[str, Any]) -> type[Config]:
    """Which of the two a config is: a pre-training counts epochs."""
    train = content.get("train")
    return PretrainConfig if isinstance(train, Mapping) and "epochs" in train else Config
