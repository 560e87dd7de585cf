"""Types of values and their ranges, and what every section is."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ...lazy.texts import Texts

_LARGEST = 2**53  # up to which floats hold every integer


def _integral(value: Any) -> Any:
    """1e5 is a float in Python and an integer to people."""
    value = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(value, int) and abs(value) > _LARGEST:  # tensors and progress bars overflow
        raise ValueError(f"it must be at most {_LARGEST}")
    return value


def metric(name: str) -> str:
    """A name of a metric, as a schema takes it; ValueError if it can't be one."""
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
Workers = Annotated[Whole, Field(ge=0, le=1024)]
Share = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(ge=0)]
Pair = Annotated[list[Count], Field(min_length=2, max_length=2)]
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


def defaults(section: type[Section]) -> dict[str, Any]:
    """The keys of a section with their defaults."""
    return section().model_dump()
