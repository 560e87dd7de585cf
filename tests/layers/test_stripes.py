"""Some rows of patches at a time: the same values, and when."""

import pytest
import torch

from itpn_d2.backbone import IntegralPyramid, create_model
from itpn_d2.layers import in_stripes


class Maps:
    """Cell by cell, to maps of other widths, types and, like an up-sampling, rows; it counts rows."""

    def __init__(self):
        self.rows = []

    def __call__(self, fine, coarse):
        assert fine.shape[1] == 4 * coarse.shape[1]
        self.rows.append(int(coarse.shape[1]))  # a tensor while tracing
        up = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2)
        return fine.tanh(), up.double(), coarse[..., :2] * 3


@pytest.fixture
def maps():
    torch.manual_seed(0)
    return torch.randn(2, 20, 12, 3), torch.randn(2, 3, 5, 4).permute(0, 2, 1, 3)


@pytest.mark.parametrize(
    ("cells", "rows"),
    [(1, [1] * 5), (96, [1] * 5), (191, [1] * 5), (192, [2, 2, 1]), (288, [3, 2]), (480, [5]), (9999, [5])],
)
@torch.no_grad()
def test_stripes_are_the_whole(maps, cells, rows):
    function = Maps()
    found = in_stripes(function, *maps, rows=5, cells=cells)
    assert function.rows == rows
    for x, whole in zip(found, function(*maps), strict=True):
        assert x.dtype == whole.dtype and torch.equal(x, whole)


@pytest.mark.parametrize(
    ("count", "cells", "rows"), [(4100, 4096, [2050] * 2), (7, 3, [3, 3, 1]), (9, 4, [3] * 3)]
)
@torch.no_grad()
def test_tokens_without_a_small_rest(count, cells, rows):
    seen = []
    tokens = torch.randn(1, count, 5)
    (found,) = in_stripes(lambda x: (seen.append(x.shape[1]) or x.exp(),), tokens, rows=count, cells=cells)
    assert seen == rows and torch.equal(found, tokens.exp())


@pytest.mark.parametrize("shape", [(0, 20, 12, 3), (2, 0, 12, 3), (2, 20, 0, 3)])
@torch.no_grad()
def test_empty_maps(shape):
    b, h, w, _ = shape
    found = in_stripes(Maps(), torch.randn(shape), torch.randn(b, h // 4, w // 4, 4), rows=h // 4, cells=1)
    assert [x.shape[0] for x in found] == [b] * 3 and found[0].shape == shape


def test_gradients_and_recorded_graphs_take_all_rows_at_once(maps):
    function = Maps()
    in_stripes(function, *maps, rows=5, cells=1)
    with torch.no_grad():
        torch.jit.trace(lambda *x: in_stripes(function, *x, rows=5, cells=1), maps, check_trace=False)
    assert set(function.rows) == {5}


@pytest.mark.parametrize("name", ["fast_itpn_nano", "itpn_nano"])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_backbone_in_stripes(name, autocast):
    """240x320 pixels twice are 9600 cells; 15 rows of patches do not divide evenly."""
    torch.manual_seed(0)
    model = create_model(name, pyramid=True).eval()
    image = torch.randn(2, 3, 240, 320)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        whole = model(image)
        with torch.no_grad():
            found = model(image)
    for level, x in found.items():
        assert x.dtype == whole[level].dtype
        torch.testing.assert_close(x, whole[level].detach(), rtol=0, atol=0.05 if autocast else 1e-5)


@pytest.mark.parametrize("options", [{}, {"concat_trunk": True}, {"fpn_depth": 2}])
@pytest.mark.parametrize("without_p2", [False, True])
def test_a_pyramid_in_stripes(options, without_p2):
    torch.manual_seed(0)
    pyramid = IntegralPyramid((8, 12, 16), fpn_dim=16, **options)
    if without_p2:
        pyramid.leave_out_p2()
    maps = [torch.randn(1, 12 * k, 20 * k, c) for k, c in ((4, 8), (2, 12), (1, 16))]
    whole = pyramid(*maps)
    with torch.no_grad():
        found = pyramid(*maps)
    assert list(found) == list(whole) and ("p2" in found) != without_p2
    for level, x in found.items():
        torch.testing.assert_close(x, whole[level].detach(), rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_backbone_with_tokens_in_parts(monkeypatch):
    model = create_model("fast_itpn_nano", pyramid=True).eval()
    image = torch.randn(2, 3, 96, 160)
    whole = model(image)
    monkeypatch.setattr("itpn_d2.backbone.blocks.TOKENS", 16)
    for level, x in model(image).items():
        torch.testing.assert_close(x, whole[level], rtol=0, atol=1e-5)


@torch.no_grad()
def test_stochastic_depth_sees_whole_samples(monkeypatch):
    model = create_model("fast_itpn_nano", pyramid=False, drop_path=0.5).train()
    seen = []
    stages = model.local_stages
    monkeypatch.setattr(model, "local_stages", lambda x: seen.append(x.shape[1]) or stages(x))
    image = torch.randn(1, 3, 240, 320)
    model(image)
    assert seen == [60]
    model.eval()(image)
    assert len(seen) > 2
