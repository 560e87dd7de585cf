"""Fusion of pyramid levels against convolutions and single cells."""

import pytest
import torch
from torch import nn

from itpn_d2.layers.units import units_to_map
from pretrain.fusion import LevelFusion


def levels(count=6, dim=8):
    torch.manual_seed(0)
    return tuple(torch.randn(2, count, u, u, dim) for u in (1, 2, 4))


def test_patches_are_a_strided_convolution():
    fusion = LevelFusion(8, 12, "patches")
    for x, norm, embed, term in zip(levels(), fusion.norms, fusion.embeds, fusion(levels()), strict=True):
        unit = x.shape[2]
        conv = nn.Conv2d(8, 12, unit, unit)
        conv.weight.data = embed.weight.data.unflatten(1, (unit, unit, 8)).permute(0, 3, 1, 2)
        conv.bias.data = embed.bias.data
        image = units_to_map(norm(x), (2, 3)).permute(0, 3, 1, 2)
        assert torch.allclose(term, conv(image).flatten(2).transpose(1, 2), atol=1e-5)


def test_cells_have_their_own_share_of_the_token():
    fusion = LevelFusion(8, 32, "cells")
    x = levels()
    before = fusion(x)[2].unflatten(2, (4, 4, 2))
    changed = x[2].clone()
    changed[:, 3, 1, 2] += torch.randn(8)
    moved = (fusion((*x[:2], changed))[2].unflatten(2, (4, 4, 2)) != before).any(-1)
    assert moved[:, 3, 1, 2].all() and moved.sum() == 2


@pytest.mark.parametrize(
    ("form", "width", "words"), [("cells", 24, "multiple of 16"), ("other", 32, "choose")]
)
def test_bad_options(form, width, words):
    with pytest.raises(ValueError, match=words):
        LevelFusion(8, width, form)
