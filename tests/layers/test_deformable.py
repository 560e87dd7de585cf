"""Deformable attention against loops in float64, its types and edges, and the kernels in Triton's
interpreter."""

import logging
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from itpn_d2.layers import DeformableAttention, deformable, deformable_samples, grid_levels, sample_levels
from itpn_d2.layers.deformable import set_form

SHAPES = {
    "levels": [(5, 7), (3, 4), (2, 2)],
    "one": [(4, 6)],
    "pixel": [(3, 3), (1, 1)],
    "row": [(1, 9), (7, 1)],
}


def inputs(shapes, batch=2, queries=5, heads=2, dim=3, points=4, dtype=torch.float64, spread=1.6):
    """Random values, locations in and around the levels, and weights."""
    generator = torch.Generator().manual_seed(len(shapes) + queries)
    cells = sum(h * w for h, w in shapes)
    value = torch.randn(batch, cells, heads, dim, generator=generator, dtype=dtype)
    size = (batch, queries, heads, len(shapes), points)
    locations = (torch.rand(*size, 2, generator=generator, dtype=dtype) - 0.5) * spread + 0.5
    weights = torch.rand(*size, generator=generator, dtype=dtype)
    return value, locations, weights


def looped(value, shapes, locations, weights):
    """The definition, point by point and corner by corner."""
    batch, _, heads, dim = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    out = torch.zeros(batch, queries, heads, dim, dtype=torch.float64)
    for b in range(batch):
        for q in range(queries):
            for k in range(heads):
                start = 0
                for level, (h, w) in enumerate(shapes):
                    for p in range(points):
                        x = float(locations[b, q, k, level, p, 0]) * w - 0.5
                        y = float(locations[b, q, k, level, p, 1]) * h - 0.5
                        left, top = int(x // 1), int(y // 1)
                        for row in (top, top + 1):
                            for column in (left, left + 1):
                                if 0 <= row < h and 0 <= column < w:
                                    share = (1 - abs(x - column)) * (1 - abs(y - row))
                                    cell = value[b, start + row * w + column, k].double()
                                    out[b, q, k] += float(weights[b, q, k, level, p]) * share * cell
                    start += h * w
    return out.flatten(2)


@pytest.mark.parametrize("form", [sample_levels, grid_levels])
@pytest.mark.parametrize("name", SHAPES)
def test_it_is_what_the_definition_says(name, form):
    value, locations, weights = inputs(SHAPES[name])
    found = form(value, SHAPES[name], locations, weights)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, looped(value, SHAPES[name], locations, weights), atol=1e-12, rtol=0)


def test_points_far_outside_count_nothing():
    value, locations, weights = inputs(SHAPES["levels"])
    assert not sample_levels(value, SHAPES["levels"], locations + 50, weights).any()


@pytest.mark.parametrize("form", [sample_levels, grid_levels])
@pytest.mark.parametrize("place", [math.inf, -math.inf, math.nan, 3e38, -3e38])
def test_a_location_that_is_none_counts_nothing(place, form):
    """Its sample and its gradients are zero, whichever coordinate it is; other points are as before."""
    shapes = SHAPES["levels"]
    value, locations, weights = inputs(shapes, dtype=torch.float32)
    expected = form(value, shapes, locations, weights.clone().index_fill_(-1, torch.tensor([0, 2]), 0))
    locations[..., 0, 0], locations[..., 2, 1] = place, place
    leaves = [x.requires_grad_() for x in (value, locations, weights)]
    out = form(value, shapes, locations, weights)
    torch.testing.assert_close(out, expected)
    out.square().sum().backward()
    assert all(x.grad.isfinite().all() for x in leaves)
    assert not locations.grad[..., 0::2, :].any() and not weights.grad[..., 0::2].any()
    assert locations.grad[..., 1::2, :].any() and weights.grad[..., 1::2].any() and value.grad.any()


@pytest.mark.parametrize("form", [sample_levels, grid_levels])
def test_gradients(form):
    value, locations, weights = (x.requires_grad_() for x in inputs(SHAPES["pixel"], batch=1, queries=2))
    assert torch.autograd.gradcheck(
        lambda v, x, w: form(v, SHAPES["pixel"], x, w), (value, locations, weights)
    )


@pytest.mark.parametrize("batch, queries", [(0, 4), (2, 0), (0, 0)])
def test_nothing_in_nothing_out(batch, queries):
    value, locations, weights = inputs(SHAPES["levels"], batch=batch, queries=queries, dtype=torch.float32)
    value.requires_grad_()
    out = sample_levels(value, SHAPES["levels"], locations, weights)
    assert out.shape == (batch, queries, 6)
    out.sum().backward()
    assert not value.grad.any()


def test_no_level_gives_zeros():
    value, locations, weights = inputs([], queries=3)
    assert torch.equal(sample_levels(value, [], locations, weights), torch.zeros(2, 3, 6).double())


def test_levels_that_do_not_fit_are_named():
    value, locations, weights = inputs(SHAPES["levels"])
    with pytest.raises(ValueError, match=r"have 28 cells in 1 levels, but value has 51 cells"):
        sample_levels(value, [(4, 7)], locations, weights)
    with pytest.raises(ValueError, match="locations have 3 levels"):
        sample_levels(value, [(51, 1)], locations, weights)


@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
def test_half_precision_samples_at_exact_places(dtype, tolerance):
    """A level as wide as that of a photograph: bfloat16 coordinates would be cells away."""
    shapes = [(2, 167)]
    value, locations, weights = inputs(shapes, dtype=torch.float32, spread=1.0)
    weights = weights / weights.sum((-1, -2), keepdim=True)
    half = sample_levels(value.to(dtype), shapes, locations, weights.to(dtype))
    assert half.dtype == dtype
    exact = sample_levels(value, shapes, locations, weights)
    torch.testing.assert_close(half.float(), exact, atol=tolerance, rtol=0)


def attention(**options):
    torch.manual_seed(0)
    module = DeformableAttention(16, 2, levels=2, points=3, **options)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def arguments(batch=2, queries=5):
    torch.manual_seed(1)
    shapes = ((4, 6), (2, 3))
    reference = torch.rand(batch, queries, 2, 4) * 0.5 + 0.25
    return torch.randn(batch, queries, 16), reference, torch.randn(batch, 30, 16), shapes


def test_offsets_start_around_the_box():
    module = DeformableAttention(16, 4, levels=1, points=2)
    seen = {}
    original = deformable.deformable_samples

    def noting(value, shapes, locations, weights, form):
        seen.update(locations=locations, weights=weights)
        return original(value, shapes, locations, weights, form)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deformable, "deformable_samples", noting)
        box = torch.tensor([0.5, 0.5, 0.4, 0.2]).expand(1, 1, 1, 4)
        module(torch.randn(1, 1, 16), box, torch.randn(1, 4, 16), ((2, 2),))
    places = seen["locations"][0, 0, :, 0]  # heads, points: right, below, left, above
    expected = torch.tensor([[[0.6, 0.5], [0.7, 0.5]], [[0.5, 0.55], [0.5, 0.6]], [[0.4, 0.5], [0.3, 0.5]]])
    torch.testing.assert_close(places[:3], expected)
    torch.testing.assert_close(seen["weights"], torch.full_like(seen["weights"], 0.5))


def test_padding_is_not_seen():
    module = attention()
    queries, reference, source, shapes = arguments()
    padding = torch.zeros(2, 30, dtype=torch.bool)
    padding[:, 20:26] = True
    out = module(queries, reference, source, shapes, padding)
    changed = source.clone()
    changed[:, 20:26] += 7
    assert torch.equal(out, module(queries, reference, changed, shapes, padding))
    assert not torch.equal(out, module(queries, reference, changed, shapes))


def test_checkpointed_it_has_the_same_gradients():
    module, (queries, reference, source, shapes) = attention(), arguments()
    gradients = []
    for recompute in (False, True):
        source.grad = None
        module.zero_grad()
        source.requires_grad_()
        call = (queries, reference, source, shapes)
        out = checkpoint(module, *call, use_reentrant=False) if recompute else module(*call)
        out.square().sum().backward()
        gradients.append([source.grad.clone(), *(p.grad.clone() for p in module.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_under_autocast_it_is_close():
    module, call = attention(), arguments()
    exact = module(*call)
    with torch.autocast("cpu", torch.bfloat16):
        found = module(*call)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, atol=0.2, rtol=0.05)


def test_it_can_be_exported():
    module, call = attention().eval(), arguments()
    graph = torch.export.export(module, call)
    torch.testing.assert_close(graph.module()(*call), module(*call))


def test_forms():
    module = nn.Sequential(attention())
    set_form(module, "torch")
    assert module[0].form == "torch"
    with pytest.raises(ValueError, match="choose auto, torch, triton"):
        set_form(module, "cuda")
    with pytest.raises(ValueError, match="choose auto, torch, triton"):
        DeformableAttention(form="fast")
    with pytest.raises(ValueError, match="not divisible"):
        DeformableAttention(10, 3)


def test_on_the_cpu_the_automatic_form_is_pytorchs():
    value, locations, weights = inputs(SHAPES["levels"])
    assert torch.equal(
        deformable_samples(value, SHAPES["levels"], locations, weights),
        sample_levels(value, SHAPES["levels"], locations, weights),
    )


def test_what_triton_can_not_do_is_said_once(monkeypatch, caplog):
    triton = pytest.importorskip("itpn_d2.layers.deformable_triton")

    def failing():
        raise RuntimeError("Failed to find C compiler\nand more")

    monkeypatch.setattr(triton, "try_out", failing)
    deformable._triton.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert [deformable._triton(), deformable._triton()] == [False, False]
        assert len(caplog.records) == 1
        assert "Failed to find C compiler" in caplog.text and "and more" not in caplog.text
    finally:
        deformable._triton.cache_clear()


def test_kernels_in_tritons_interpreter():
    """In a process of its own: Triton decides on import whether it interprets."""
    pytest.importorskip("triton")
    script = Path(__file__).with_name("deformable_kernels.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "8 cases agree"
