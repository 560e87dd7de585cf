"""What is real in a padded batch: found in the pixels, or told."""

import pytest
import torch

from itpn_d2.layers import content_sizes, token_grids, token_mask

CPU = torch.device("cpu")


def test_content_sizes_finds_zero_padding():
    images = torch.zeros(4, 3, 32, 48)
    images[0, :, :20, :33] = 1
    images[1] = -1
    images[2, 1, 5, 6] = 1  # black inside, one pixel in one channel
    assert content_sizes(images) == [(20, 33), (32, 48), (6, 7), (32, 48)]  # an empty image counts whole


def test_token_mask():
    mask = token_mask(torch.tensor([(1, 2), (2, 3)]), (2, 3))
    assert mask.tolist() == [[[True, True, False], [False] * 3], [[True] * 3] * 2]


@pytest.mark.parametrize("form", [list, torch.tensor, lambda s: [torch.tensor(x) for x in s]])
def test_grids_of_sizes(form):
    """Integers, a tensor, or a tensor for each image; a token counts when one of its pixels does."""
    grids = token_grids(form([(33, 64), (16, 1)]), 16, (4, 4), 2, CPU)
    assert grids.dtype == torch.int64 and grids.tolist() == [[3, 4], [1, 1]]


@pytest.mark.parametrize("sizes", [(), [(50, 64), (64, 49)], torch.tensor([(50, 64), (64, 49)])])
def test_images_that_fill_their_tokens_need_no_mask(sizes):
    assert token_grids(sizes, 16, (4, 4), 2, CPU) is None


def test_sizes_on_a_device_are_not_waited_for():
    sizes = torch.tensor([(64, 64), (64, 64)], device="meta")
    assert token_grids(sizes, 16, (4, 4), 2, torch.device("meta")).shape == (2, 2)


def test_another_number_of_sizes_is_refused():
    with pytest.raises(ValueError, match="image_sizes of 1 images for a batch of 2"):
        token_grids([(64, 64)], 16, (4, 4), 2, CPU)
