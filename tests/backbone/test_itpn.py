"""Detection and segmentation forms of iTPN v1."""

import pytest
import torch
from torch.nn import functional as F

from itpn_d2 import create_model

SIZES = dict(channels=(8, 16, 32), depths=(1, 1, 2), num_heads=2, pos_grid=(4, 4), pyramid=True, fpn_dim=24)


def image(height=64, width=96):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rel_pos", ["none", "table", "decomposed"])
@pytest.mark.parametrize("scale", [None, 0.1])
@pytest.mark.parametrize("concat", [False, True])
@pytest.mark.parametrize("size", [(64, 96), (50, 70)])
def test_shapes_are_what_output_shape_says(rel_pos, scale, concat, size):
    torch.manual_seed(0)
    model = create_model("itpn_nano", rel_pos=rel_pos, layer_scale=scale, concat_trunk=concat, **SIZES).eval()
    with torch.no_grad():
        features = model(image(*size))
    assert list(features) == ["p2", "p3", "p4", "p5", "p6"]
    padded = [-(-s // 32) * 32 for s in size]
    for name, spec in model.output_shape().items():
        assert spec.channels == 24 + concat * {"p2": 8, "p3": 16}.get(name, 32)
        assert features[name].shape == (2, spec.channels, padded[0] // spec.stride, padded[1] // spec.stride)
        assert torch.isfinite(features[name]).all()


@pytest.mark.parametrize("name", ["itpn_nano", "fast_itpn_nano"])
def test_segmentation_levels_are_pyramid_then_trunk(name):
    torch.manual_seed(0)
    plain = create_model(name, **SIZES).eval()
    both = create_model(name, concat_trunk=True, **SIZES).eval()
    both.load_state_dict(plain.state_dict())
    with torch.no_grad():
        trunk = plain.trunk(image())
        levels, pyramid = both(image()), plain(image())
    for level, stage in zip(("p2", "p3", "p4"), trunk, strict=True):
        torch.testing.assert_close(levels[level][:, :24], pyramid[level])
        torch.testing.assert_close(levels[level][:, 24:], stage.permute(0, 3, 1, 2))
    torch.testing.assert_close(levels["p5"], F.max_pool2d(levels["p4"], 2))
    torch.testing.assert_close(pyramid["p5"], F.avg_pool2d(pyramid["p4"], 2))


def test_one_type_for_all_levels_under_autocast():
    model = create_model("itpn_nano", concat_trunk=True, **SIZES).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features = model(image())
    assert len({f.dtype for f in features.values()}) == 1
