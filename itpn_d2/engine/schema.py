"""The keys of a config that are no arguments of a target: their types, ranges and defaults.

``train`` has its defaults here alone. Of the sections whose nodes are calls (``dataloader.train``,
``optimizer``, ...) the ranges of the common arguments stand here too; any other argument is checked against
its target.
"""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..errors import ConfigError
from ..lazy.options import nearest
from ..lazy.texts import Texts


def _integral(value: Any) -> Any:
    """1e5 is a float in Python and an integer to people."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _metric(name: str) -> str:
    if name and name != "val_loss" and "/" not in name.removeprefix("ema/").strip("/"):
        raise ValueError("write it as in metrics.json: segm/AP, ema/segm/AP or val_loss; empty for none")
    return name


def _given(value: Any) -> Any:
    if value is None:
        raise ValueError("it can't be null")
    return value


def _texts(value: Any) -> Any:
    return list(value) if isinstance(value, Texts) else value


Whole = Annotated[int, BeforeValidator(_integral)]
Count = Annotated[Whole, Field(ge=1)]
Number = Annotated[Whole, Field(ge=0)]  # 0: never, or none
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Pixels = Annotated[Whole, Field(ge=16)]  # one token
Seed = Annotated[Whole, Field(ge=0, lt=2**32)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|(cuda|mps|xpu)(:\d+)?)$")]
Text = Annotated[str, Field(min_length=1)]
Decoder = Literal["auto", "pillow", "torchvision"]
Names = Annotated[list[str], BeforeValidator(_texts)]
Given = Annotated[Any, AfterValidator(_given)]


class Section(BaseModel):
    """A mapping in which no other key may stand."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Call(Section):
    """A call: its other arguments are those of its target."""

    model_config = ConfigDict(extra="allow")
    target: Given = Field(alias="_target_")


class Amp(Section):
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = "auto"


class Ema(Section):
    enabled: bool = False
    decay: Decay = 0.9998


class Ddp(Section):
    find_unused_parameters: bool = Field(
        default=False, description="True: where a step does not use all parameters"
    )
    gradient_as_bucket_view: bool = Field(
        default=True, description="gradients lie in the buckets that are exchanged, which saves their memory"
    )
    static_graph: bool = Field(default=False, description="every step uses the same parameters")
    bucket_cap_mb: Positive | None = Field(default=None, description="null: 25")
    compress: Literal["none", "bf16"] = Field(
        default="none", description="bf16: gradients are exchanged in half precision"
    )


class Profile(Section):
    steps: Number = Field(default=0, description="iterations that are recorded, 0: none")
    start: Number = Field(default=10, description="the first of them, counted from the start of the process")
    memory: bool = False


class Checkpoints(Section):
    period: Count = Field(default=5000, description="iterations")
    max_to_keep: Count | None = Field(default=3, description="null: all")


class Pictures(Section):
    period: Number = Field(default=0, description="iterations, 0: never")
    images: Number = 8


class _Run(Section):
    """What trainings and pre-trainings share."""

    output_dir: Text = "./output"
    overwrite: bool = Field(
        default=False, description="start anew in a folder with checkpoints, which are moved to earlier_<n>"
    )
    init_checkpoint: str | None = Field(
        default="", description="a file or address of any kind; auto: the pre-training in the package"
    )
    device: Device = Field(default="auto", description="auto: cuda where there is one; cpu, cuda, cuda:N")
    amp: Amp = Amp()
    accumulate: Count = Field(
        default=1,
        description="micro-batches per step; the total batch stays dataloader.train.total_batch_size",
    )
    clip_grad_norm: Positive | None = Field(default=None, description="null: gradients are not clipped")
    nan: Literal["stop", "skip"] = Field(
        default="stop",
        description="a loss that is not finite ends the run; or leaves its step out, 9 in a row",
    )
    ema: Ema = Ema()
    ddp: Ddp = Ddp()
    timeout_s: Positive = Field(
        default=300.0, description="seconds a process waits for another in a step; 1800 in the first"
    )
    log_period: Count = Field(default=20, description="iterations")
    show_groups: bool = False
    compile: Literal["none", "blocks"] = Field(
        default="none", description="blocks: each block of a trunk, pyramid or decoder is compiled"
    )
    profile: Profile = Profile()
    count_flops: bool = Field(
        default=False, description="count operations in the first step: tflops and mfu in the metrics"
    )
    keep_freed_memory: bool = Field(default=True, description="on a CPU, see itpn_d2/engine/allocator.py")
    seed: Seed = 42


class Training(_Run):
    """``train`` of train_net.py."""

    max_iter: Count = Field(default=90000, description="iterations")
    checkpointer: Checkpoints = Checkpoints()
    eval_period: Number = Field(default=5000, description="iterations, 0: never")
    validation_loss: bool = False
    best_metric: Annotated[str, AfterValidator(_metric)] = Field(
        default="", description="whose best value keeps model_best.pth"
    )
    visualize: Pictures = Pictures()
    report: bool = Field(default=False, description="a page about each evaluation: report.html")


class EpochCheckpoints(Section):
    epochs: Annotated[float, Field(ge=0)] = Field(default=20, description="0: at the end only")
    max_to_keep: Count | None = Field(default=3, description="null: all")


class EpochPictures(Section):
    epochs: Annotated[float, Field(ge=0)] = Field(default=20, description="0: never")
    images: Number = 8


class Neighbours(Section):
    """k-NN on labelled images while pre-training."""

    epochs: Annotated[float, Field(ge=0)] = Field(default=0, description="0: never")
    train: str | None = None
    test: str | None = None
    image_size: Pixels | None = None
    neighbours: Count = 20


class Stage(Section):
    epoch: Number
    size: Pixels
    batch: Count | None = None
    lr: Positive | None = None


class Pretraining(_Run):
    """``train`` of pretrain."""

    output_dir: Text = "./output/pretrain"
    epochs: Count = 1600
    max_iter: Count | None = Field(default=None, description="follows from the epochs")
    base_lr: Positive | None = Field(default=1.5e-4, description="per 256 images; null: optimizer.lr")
    progressive: list[Stage] | None = Field(
        default=None, description="[{epoch: 0, size: 128, batch: 4096}, {epoch: 300, size: 192}, ...]"
    )
    size_divisor: Count = 16
    checkpointer: EpochCheckpoints = EpochCheckpoints()
    visualize: EpochPictures = EpochPictures()
    knn: Neighbours = Neighbours()


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
    enabled: bool = False
    scales: Annotated[list[Positive], Field(min_length=1)] = [1.0]
    flip: bool = True


class Loader(Call):
    mapper: Given = {}
    total_batch_size: Count = 16
    batch_size: Count = 1
    num_workers: Number = 2
    seed: Seed = 0
    start_iter: Number = 0
    repeat_threshold: Share | None = None
    min_keypoints: Number = 0
    max_images: Count | None = None


class Dataloader(Section):
    decoder: Decoder = Field(default="auto", description="see docs/data.md")
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
    num_workers: Number = 0


class PretrainDataloader(Section):
    decoder: Decoder = Field(default="auto", description="see docs/data.md")
    train: Images


class Set(Call):
    name: Text = "dataset"
    num_images: Count = 1
    size: Annotated[Whole, Field(ge=32)] = 32
    seed: Seed = 0


class Dataset(Section):
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
    train: Set


class Parameters(Call):
    lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0


class Optimizer(Call):
    params: Parameters
    lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Decay = 0.9
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)] = [
        0.9,
        0.999,
    ]
    eps: Annotated[float, Field(ge=0)] = 1e-8


class Schedule(Call):
    warmup_length: Share = Field(default=0.0, description="share of the run")
    warmup_factor: Share = 0.0


class Model(Call):
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


def defaults(section: type[Section]) -> dict[str, Any]:
    """The keys of a section with their defaults."""
    return section().model_dump()


def kind_of(content: Mapping[str, Any]) -> type[Config]:
    """Which of the two a config is: a pre-training counts epochs."""
    train = content.get("train")
    return PretrainConfig if isinstance(train, Mapping) and "epochs" in train else Config


def validated(
    schema: type[Config], content: Mapping[str, Any], refers: Callable[[str], bool] = lambda key: False
) -> Config:
    """Check the sections, references resolved.

    Args:
        refers: whether the value at a key is a reference, which has what it refers to to blame.

    Raises:
        ConfigError: every wrong key on a line of its own: the key, its value, and what is allowed.
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        found = {_line(schema, content, e): _key(e) for e in error.errors(include_url=False)}
        told = [line for line, key in found.items() if not refers(key)]
        raise ConfigError("\n".join(told or found)) from error


def _key(error: Any) -> str:
    return ".".join(str(part) for part in error["loc"] if not _is_branch(part))


def _line(schema: type[Section], content: Any, error: Any) -> str:
    *outer, last = [part for part in error["loc"] if not _is_branch(part)]
    section, field = schema, None
    for part in [*outer, last]:
        field = _fields(section).get(str(part)) if section is not None else None
        section = _section_of(field.annotation) if field is not None else None  # type: ignore[assignment]
    key = ".".join(map(str, [*outer, last]))
    if error["type"] == "extra_forbidden":
        known = _fields(_at(schema, outer))
        return f"{key}: there is no such key; {nearest(str(last), known)}"
    if error["type"] == "missing":
        return f"{key} is missing"
    note = f" ({field.description})" if field is not None and field.description else ""
    if error["type"] in ("model_type", "model_attributes_type", "dict_type"):
        keys = ", ".join(_fields(section)) if section is not None else "key: value"
        return f"{key}={error['input']!r}: it has to be a section {{{keys}}}"
    text = re.sub(r"^(Value error, |\w+ (?=should))", "", error["msg"])
    text = "it can't be that" if "pattern" in error["type"] else re.sub("^should", "it should", text)
    return f"{key}={error['input']!r}: {text}{note}"


def _is_branch(part: Any) -> bool:
    """Of a union pydantic also says which branch it tried."""
    return isinstance(part, str) and ("[" in part or part in ("int", "float", "str", "list"))


def _fields(section: Any) -> dict[str, Any]:
    return {field.alias or name: field for name, field in section.model_fields.items()} if section else {}


def _at(schema: type[Section], keys: list[Any]) -> Any:
    section: Any = schema
    for key in keys:
        field = _fields(section).get(str(key))
        section = _section_of(field.annotation) if field is not None else section
    return section


def _section_of(annotation: Any) -> type[Section] | None:
    """The section in an annotation, also of a list of them or of one that may be null."""
    inside = get_args(annotation)  # of list[int], which is a type to Python 3.10
    if not inside and isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    for inner in inside:
        found = _section_of(inner)
        if found is not None:
            return found
    return None
