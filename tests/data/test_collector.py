"""Reading leaves the garbage collector as it was, and makes the same masks in both ways."""

import gc
import math

import numpy as np
import pytest

from itpn_d2.data import masks
from itpn_d2.data.collector import uncollected


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_as_before(on):
    if not on:
        gc.disable()
    try:
        with pytest.raises(ValueError), uncollected():
            assert not gc.isenabled()
            raise ValueError
        assert gc.isenabled() == on
    finally:
        gc.enable()


def outlines():
    random = np.random.default_rng(0)
    for number in range(400):
        points = random.uniform(0, (72, 56), (int(random.integers(3, 30)), 2))
        if number % 4 == 1:
            points = points.round()
        if number % 4 == 2:  # in a turn around the middle: what annotators draw
            around = np.sort(random.uniform(0, 2 * math.pi, len(points)))
            points = np.stack([36 + 20 * np.cos(around), 28 + 20 * np.sin(around)], 1)
        if number % 40 == 3:
            points = np.concatenate([points, points])
        if number % 7 == 0:
            points += random.uniform(-40, 40, 2)
        yield [points.ravel().tolist()]
    yield [[1, 1, 30, 1, 30, 20, 1, 20]]


def test_the_usual_polygons_are_read_as_the_others(monkeypatch):
    def read(value):
        try:
            return masks.read_mask(value, 56, 72)
        except masks.BadValue as error:
            return error.kind, str(error)

    usual = sum(masks._usual(value, 56, 72) is not None for value in outlines())
    assert 150 < usual < 350
    quick = [read(value) for value in outlines()]
    monkeypatch.setattr(masks, "_usual", lambda *_: None)
    for found, value in zip(quick, outlines(), strict=True):
        expected = read(value)
        if isinstance(expected, tuple):
            assert found == expected
        else:
            assert found.segmentation == expected.segmentation and found.area == pytest.approx(expected.area)
            assert found.box == pytest.approx(expected.box)


@pytest.mark.parametrize(
    "polygon",
    [
        [1, 1, 9, 1, 9],
        [1, 1, 9, 1, 9, float("nan")],
        [float("nan"), 1, 9, 1, 9, 9, 20, 20],
        [1, 1, 9, 1, 9, True, 2, 2],
        [1, 1, 9, 1, 9, "9", 1, 9],
        [1, 1, 9, 1, 9, float("inf")],
        [1, 1, 9, 1, 10**400, 9],
        [1, 1, 9, 1],
        [1, 1, 2, 1, 2, 2],
        (1, 1, 9, 1, 9, 9, 1, 9),
    ],
)
def test_all_else_gets_a_closer_look(polygon):
    assert masks._usual([polygon], 56, 72) is None
