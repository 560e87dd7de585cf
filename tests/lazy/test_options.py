"""Which arguments targets take, and which values."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from itpn_d2 import create_model
from itpn_d2.lazy.options import hands_on, options_of
from itpn_d2.lazy.types import describe, fits


class Base(torch.nn.Module):
    def __init__(self, width: int, depth: int = 1):
        super().__init__()


class Middle(Base):
    def __init__(self, *args, rate: float = 0.0, **options: Any):
        super().__init__(*args, **options)


class Leaf(Middle):
    pass


def inner(alpha: int, beta: int = 2):
    return alpha


@hands_on(lambda given: options_of(inner, given).named)
def outer(name: str, **more: Any):
    return inner(**more)


def open_ended(name: str, **more: Any):
    return more


def test_options_are_followed_to_where_they_go():
    assert (
        set(options_of(Leaf, {}).named) == {"width", "depth", "rate"} and not options_of(Leaf, {}).any_other
    )
    assert (
        set(options_of(outer, {}).named) == {"name", "alpha", "beta"} and not options_of(outer, {}).any_other
    )
    assert options_of(open_ended, {}).any_other
    assert options_of(Leaf, {}).named["depth"].default == 1


@pytest.mark.parametrize(
    ("given", "has", "lacks"),
    [
        ({}, {"drop_path", "mlp_ratio"}, {"fpn_dim", "rel_pos", "head_std", "trunk"}),
        ({"pyramid": True}, {"drop_path", "fpn_dim", "freeze_at", "pyramid_mlp_ratio"}, {"head_std"}),
        ({"num_classes": None}, {"pooling", "head_std"}, {"fpn_dim"}),
    ],
)
def test_options_of_a_variant(given, has, lacks):
    found = options_of(create_model, {"name": "fast_itpn_nano", **given}).named
    assert has <= found.keys() and not lacks & found.keys()
    assert "rel_pos" in options_of(create_model, {"name": "itpn_nano"}).named
    asked = {key: value or 3 for key, value in given.items()}
    left_out = {"name", "pyramid", "num_classes", "pyramid_mlp_ratio", "channels", "depths", "num_heads"}
    for name in found.keys() - left_out:  # whatever is listed can be given
        create_model("fast_itpn_nano", depths=(1, 1, 1), **asked, **{name: found[name].default})


@pytest.mark.parametrize(
    ("annotation", "right", "wrong"),
    [
        (int, [1, -1], [1.5, "1", True, None, [1], float("nan")]),
        (float, [1, 0.5], ["1", True, None, float("nan"), float("inf")]),
        (bool, [True], [1, "true", None]),
        (str, ["", "a"], [1, None, ["a"]]),
        (str | Path, ["a"], [1, None]),
        (int | None, [1, None], ["a", 1.5]),
        (Literal["a", 1], ["a", 1], ["b", 2, True, None]),
        (tuple[int, int], [[1, 2]], [[1], [1, 2, 3], "12", 5, [1, "a"], None]),
        (tuple[str, ...], [[], ["a", "b"]], ["ab", ["a", 1], None]),
        (list[float], [[1, 0.5]], [["a"], {}, 1]),
        (dict[str, float], [{"a": 1}], [{"a": "b"}, [], "a"]),
        (Base | dict[str, int] | None, [None, {"a": 1}, Base(1)], ["abc", 5, [1]]),
        (Any, [None, 1, "a"], []),
        (Base, ["whatever it is built of"], []),
    ],
)
def test_values_of_annotations(annotation, right, wrong):
    assert all(fits(value, annotation) for value in right)
    assert not [value for value in wrong if fits(value, annotation)]
    assert describe(annotation)
