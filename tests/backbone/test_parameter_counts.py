"""Sizes equal to the published ones, to the last digit."""

import pytest
import torch

from itpn_d2 import IntegralPyramid, create_model

CLASSIFIERS = {  # with 1000 classes, by image size
    "tiny": {224: 24_219_976, 384: 24_365_896, 512: 24_537_928},
    "small": {224: 39_902_920, 384: 40_048_840, 512: 40_220_872},
    "base": {224: 84_825_192, 384: 85_019_752, 512: 85_249_128},
    "large": {224: 312_017_320, 256: 312_063_400, 640: 313_095_592},
}
TRUNKS = {"tiny": 23_834_208, "small": 39_517_152, "base": 84_311_168, "large": 311_246_784}
PYRAMIDS = {"tiny": 2_583_122, "small": 2_583_122, "base": 2_771_794, "large": 3_149_138}


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("name", "size", "expected"), [(n, s, e) for n, row in CLASSIFIERS.items() for s, e in row.items()]
)
@pytest.mark.parametrize("pooling", ["mean_then_norm", "norm_then_mean"])
def test_classifier(name, size, expected, pooling):
    grid = (size // 16, size // 16)
    with torch.device("meta"):
        model = create_model(f"fast_itpn_{name}", num_classes=1000, pos_grid=grid, pooling=pooling)
    assert count(model) == expected


@pytest.mark.parametrize("name", TRUNKS)
def test_trunk_and_pyramid(name):
    with torch.device("meta"):
        trunk = create_model(f"fast_itpn_{name}", final_norm=False)
        pyramid = IntegralPyramid(trunk.channels)
    assert count(trunk) == TRUNKS[name] and count(pyramid) == PYRAMIDS[name]
    assert pyramid.out_p2.mlp.fc1.out_features == 682
