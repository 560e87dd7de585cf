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


V1_CLASSIFIERS = {  # with 1000 classes at 224, relative tables: pixel form, CLIP form (layer scale)
    "base": (78_557_992, 78_583_720),
    "large": (288_493_576, 288_556_168),
}
V1_BACKBONES = {  # without relative positions, by blocks after each addition of the pyramid
    "base": {1: 81_552_000, 2: 82_604_160},
    "large": {1: 291_398_464, 2: 292_450_624},
}


@pytest.mark.parametrize("name", V1_CLASSIFIERS)
@pytest.mark.parametrize("scaled", [False, True])
def test_v1_classifier(name, scaled):
    with torch.device("meta"):
        model = create_model(
            f"itpn_{name}", num_classes=1000, rel_pos="table", layer_scale=0.1 if scaled else None
        )
    assert count(model) == V1_CLASSIFIERS[name][scaled]


@pytest.mark.parametrize(("name", "depth"), [(n, d) for n in V1_BACKBONES for d in (1, 2)])
def test_v1_backbone(name, depth):
    with torch.device("meta"):
        model = create_model(f"itpn_{name}", pyramid=True, fpn_depth=depth)
    assert count(model) == V1_BACKBONES[name][depth]


def test_v1_clip_detector():
    with torch.device("meta"):
        model = create_model("itpn_base", pyramid=True, fpn_depth=1, layer_scale=0.1)
    assert count(model) == 81_577_728


@pytest.mark.parametrize(("depth", "expected"), [(1, 80_204_416), (2, 80_730_496)])
def test_v1_without_its_finest_level(depth, expected):
    """The reference's two-level form ends at stride 8; here p2 is always built."""
    with torch.device("meta"):
        model = create_model("itpn_base", pyramid=True, fpn_depth=depth)
    p = model.pyramid
    finest = sum(map(count, (p.split_p2, p.lateral_p2, p.blocks_p2, p.out_p2)))
    assert count(model) - finest == expected


@pytest.mark.parametrize(
    ("name", "channels"), [("base", (384, 512, 768, 768)), ("large", (448, 640, 1024, 1024))]
)
def test_v1_segmentation_form(name, channels):
    """No parameters of its own; the widths of the reference's segmentors."""
    options = dict(pyramid=True, fpn_depth=2, out_features=("p2", "p3", "p4", "p5"))
    with torch.device("meta"):
        model = create_model(f"itpn_{name}", concat_trunk=True, **options)
    assert count(model) == V1_BACKBONES[name][2]
    assert tuple(s.channels for s in model.output_shape().values()) == channels
