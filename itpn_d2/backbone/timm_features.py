"""Networks of timm as feature extractors that take images of any size, where timm can.

Some networks are built for one size (Swin's masks, ViT's positions, Hiera's units); timm has a switch for
most of them, and for the others this module finds out which sizes they accept.
"""

import difflib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import nn

from .timm_names import is_wrapped

Network = Any  # timm has no type information


@dataclass(frozen=True)
class SizeRule:
    """The image sizes that a network accepts.

    Attributes:
        multiple: pixels that height and width have to be multiples of.
        fixed: the only (height, width) it takes; None: any.
        takes_img_size: whether the constructor has an ``img_size``.
    """

    multiple: int
    fixed: tuple[int, int] | None
    takes_img_size: bool


def build_features(
    name: str,
    out_indices: Sequence[int] | None = None,
    img_size: int | tuple[int, int] | None = None,
    always_partition: bool = False,
    **options: Any,
) -> tuple[Network, SizeRule]:
    """``timm.create_model(name, features_only=True)`` for images of any size, and what sizes those may be.

    Args:
        name: timm model name.
        out_indices: features to return, negative ones from the end; None: of the strides from 4 on those that
            are there, or the last one of a network of a single stride.
        img_size: pixels it is built for, None for the network's own. It decides about tables of positions; a
            network of a fixed size takes this size only.
        always_partition: Swin shifts its windows also where a map of ``img_size`` is a single window, as
            detectors need it, whose maps are larger.
        **options: further arguments of timm's constructor, such as ``in_chans`` or ``drop_path_rate``.

    Raises:
        ValueError: no such network, one without features, or an ``img_size`` for one that has none.
    """
    options = {k: plain(v) for k, v in options.items()}
    given = {k: v for k, v in options.items() if k not in ("pretrained", "checkpoint_path")}
    check_name(name)
    sizes = {} if img_size is None else {"img_size": img_size}
    with torch.device("meta"):
        try:
            whole = timm.create_model(name, **given)
        except TypeError as error:
            raise ValueError(f"timm's {name} does not take these options: {error}") from error
    parameters = inspect.signature(type(whole)).parameters
    takes_img_size = "img_size" in parameters
    if img_size is not None and not takes_img_size:
        raise ValueError(f"{name} takes images of any size: leave img_size={img_size} out")
    flexible = "dynamic_img_size" in parameters or "strict_img_size" in parameters
    if "dynamic_img_size" in parameters:
        sizes["dynamic_img_size"] = True
    elif "strict_img_size" in parameters:
        sizes["strict_img_size"] = False
    if always_partition and "always_partition" in parameters:
        sizes["always_partition"] = True
    strides = _strides(whole, name)
    features: dict[str, Any] = {"out_indices": _indices(strides, out_indices, name)}
    if hasattr(whole, "forward_intermediates"):
        features["feature_cls"] = "getter"
    arguments = {**sizes, **options, "features_only": True, **features}
    rule = SizeRule(max(strides), None, takes_img_size)
    if takes_img_size and not flexible:
        side = img_size if img_size is not None else whole.pretrained_cfg["input_size"][-2:]
        height, width = (side, side) if isinstance(side, int) else side
        with torch.device("meta"):
            twin = timm.create_model(name, **{**sizes, **given, "features_only": True, **features})
        rule = _try_sizes(twin, height, width, max(strides), given.get("in_chans", 3))
    network = timm.create_model(name, **arguments)
    _drop_norm_of_head(network)
    return network, rule


def _drop_norm_of_head(network: nn.Module) -> None:
    """Features do without the norm of a classifier's head. Earlier versions of timm (1.0.28 does) keep
    ConvNeXt's: processes that train together would wait for a gradient of it that never comes."""
    head = getattr(getattr(network, "model", None), "head", None)
    if head is not None and isinstance(getattr(head, "norm", None), nn.Module):
        head.norm = nn.Identity()


def check_name(name: str) -> None:
    """ValueError, with names like it, unless timm has a network of that name; one of a hub is not looked
    at."""
    if ":" in name or timm.is_model(name.split(".")[0]):
        return
    near = difflib.get_close_matches(name, timm.list_models(), 4)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise ValueError(f"timm {timm.__version__} has no network {name!r}{hint}")


def plain(value: Any) -> Any:
    """Lists, also those of a config, as tuples, which all of timm accepts."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(plain(item) for item in value)
    return value


def _strides(whole: Network, name: str) -> list[int]:
    info = getattr(whole, "feature_info", None)
    if not info:
        raise ValueError(f"timm's {name} has no features_only")
    return [entry["reduction"] for entry in (info.get_dicts() if hasattr(info, "get_dicts") else info)]


def _indices(strides: list[int], wanted: Sequence[int] | None, name: str) -> list[int]:
    if wanted is None:
        # one entry a stride: the last
        best = {stride: i for i, stride in enumerate(strides) if stride >= 4}
        return sorted(best.values())
    count = len(strides)
    if not wanted or any(not -count <= i < count for i in wanted):
        raise ValueError(
            f"out_indices {list(wanted)}: {name} has {count} features, choose from 0 to {count - 1}"
        )
    return sorted({i % count for i in wanted})


def _takes(network: nn.Module, channels: int, height: int, width: int) -> bool:
    try:
        with torch.no_grad():
            network(torch.empty(1, channels, height, width, device="meta"))
    except (RuntimeError, ValueError, AssertionError):
        return False
    return True


def _try_sizes(twin: nn.Module, height: int, width: int, stride: int, channels: int) -> SizeRule:
    """The rule of a network without a switch, found by running a copy on the meta device."""
    twin.eval()
    if _takes(twin, channels, height + stride, width + 2 * stride):
        return SizeRule(stride, None, True)
    if height == width and _takes(twin, channels, 2 * height, 3 * width):
        return SizeRule(height, None, True)  # windows that have to fit
    return SizeRule(stride, (height, width), True)


def inner(network: Network) -> Network:
    """The network that a wrapper holds; one that is rebuilt by its wrapper has none and is given back."""
    if is_wrapped(network):
        return getattr(network, "model", getattr(network, "body", network))
    return network


def channels_last_outputs(network: Network) -> bool:
    """Whether the features are ``(B, H, W, C)``."""
    return str(getattr(network, "output_fmt", None) or "NCHW").endswith("NHWC")
