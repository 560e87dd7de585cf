"""Anything a picture can be given as becomes the same RGB."""

import numpy as np
import pytest
from PIL import Image

from itpn_d2.data.decode import BrokenImageError
from itpn_d2.inference import read_image


@pytest.fixture
def rgb(good):
    with Image.open(good[0] / "plain.png") as image:
        return np.asarray(image)


def test_arrays_of_every_kind(rgb):
    grey = rgb[..., 0]
    for array, order, expected in [
        (rgb[..., ::-1], "BGR", rgb),
        (rgb, "RGB", rgb),
        (rgb.astype(np.uint16) * 257, "RGB", rgb),
        (rgb.astype(np.float32) / 255, "RGB", rgb),
        (rgb.astype(np.float64), "RGB", rgb),
        (rgb.astype(np.int64), "RGB", rgb),
        (grey, "BGR", np.dstack([grey] * 3)),
        (grey[..., None], "BGR", np.dstack([grey] * 3)),
        (grey > 100, "BGR", np.dstack([255 * (grey > 100)] * 3)),
    ]:
        found = read_image(array, order)
        assert found.shape == rgb.shape and found.dtype == np.uint8
        assert np.abs(found.astype(int) - expected).max() <= 1, (array.dtype, array.shape)


def test_transparency_shows_white_in_both_orders(rgb):
    rgba = np.dstack((rgb, np.zeros((24, 40), np.uint8)))
    rgba[12:, :, 3] = 255
    for array, order in ((rgba, "RGB"), (rgba[..., [2, 1, 0, 3]], "BGR")):
        found = read_image(array, order)
        assert (found[:12] == 255).all() and np.array_equal(found[12:], rgb[12:])


def test_files_and_pillow_images(good, rgb):
    folder, sizes = good
    for name, size in sizes.items():
        found = read_image(folder / name)
        assert found.shape == (*size, 3) and found.dtype == np.uint8
        with Image.open(folder / name) as image:
            assert np.array_equal(read_image(image), found)
    assert np.array_equal(read_image(str(folder / "plain.png")), rgb)


def test_what_cannot_be_read(bad):
    folder, reasons = bad
    for name, reason in reasons.items():
        with pytest.raises(BrokenImageError, match=reason):
            read_image(folder / name)


@pytest.mark.parametrize(
    "given, reason",
    [
        (None, "did reading it fail"),
        (3, "did reading it fail"),
        (np.zeros((5, 5, 2)), r"this one has \(5, 5, 2\)"),
        (np.zeros(5), r"this one has \(5,\)"),
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        (np.full((5, 5, 3), np.nan), "nan"),
        (np.full((5, 5, 3), -4), "from -4 to -4"),
        (Image.new("RGB", (0, 4)), "no pixels"),
        ("nowhere.png", "FileNotFoundError"),
    ],
)
def test_what_is_no_image(given, reason):
    with pytest.raises(BrokenImageError, match=reason):
        read_image(given)
