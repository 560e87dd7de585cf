"""The picture of tokens that leave."""

import cv2
import numpy as np
import pytest

from itpn_d2.evaluation import exit_picture, save_exit_picture


def test_what_has_left_is_faded_where_it_was(tmp_path):
    image = np.full((64, 90, 3), 40, np.uint8)  # the last column of tokens is cut
    exits = np.full((4, 6), 12)
    exits[0] = 3
    exits[:, 5] = 6
    picture = exit_picture(image, exits, 12, side=90)
    assert picture.shape == (64 + 22, 3 * 90 + 2 * 8, 3)
    first, second, third = (picture[22:, x : x + 90] for x in (0, 98, 196))
    assert np.array_equal(first, image)
    assert (second[:15, :79] > 150).all() and (second[18:] == 40).mean() > 0.9
    assert (second[18:78, 83:90] < 150).any() and (third[18:, 83:90] > 150).all()
    assert (third[20:60, 5:75] == 40).all()  # inside the outline
    plain = np.zeros((64, 64, 3), np.uint8)
    save_exit_picture(tmp_path / "out.png", [image, plain], [exits, np.full((4, 4), 12)], 12)
    height, width = cv2.imread(str(tmp_path / "out.png")).shape[:2]
    assert height == round(64 * 320 / 90) + 320 + 2 * (22 + 8) and width == 3 * 320 + 2 * 8
    with pytest.raises(ValueError, match="no image"):
        save_exit_picture(tmp_path / "none.png", [], [], 12)


def test_nothing_leaves():
    image = np.zeros((32, 32, 3), np.uint8)
    assert exit_picture(image, np.full((2, 2), 6), 6, side=32).shape == (54, 32, 3)


def test_the_map_must_cover_the_image():
    with pytest.raises(ValueError, match="exits of 2x2 tokens for an image of 32x33 pixels"):
        exit_picture(np.zeros((32, 33, 3), np.uint8), np.zeros((2, 2), int), 6)
