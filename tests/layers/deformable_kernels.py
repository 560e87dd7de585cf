"""The Triton kernels against the PyTorch form, values and gradients, and their trial; run with
TRITON_INTERPRET=1 on a CPU."""

import math
import sys

import torch

from itpn_d2.layers import sample_levels
from itpn_d2.layers.deformable_triton import sample_levels_triton, try_out

# levels; batch, queries, heads, channels of a head, points; type of the values
CASES = [
    ([(5, 7), (3, 4), (2, 2)], (2, 5, 2, 4, 4), torch.float32),
    ([(3, 3), (1, 1)], (1, 70, 2, 8, 2), torch.float32),  # more than a block, a level of one pixel
    ([(1, 9), (7, 1)], (2, 3, 1, 3, 1), torch.float32),  # 3 channels: the kernel has 4 places
    ([(4, 6)], (2, 6, 3, 16, 3), torch.bfloat16),
    ([(4, 6)], (2, 6, 3, 16, 3), torch.float16),
    ([(4, 6)], (0, 6, 3, 16, 3), torch.float32),
    ([(4, 6)], (2, 0, 3, 16, 3), torch.float32),
    ([(4, 6)], (1, 9, 1, 128, 2), torch.float32),  # a wide head: fewer queries a block
]


def results(function, shapes, given):
    """The outcome and its gradients."""
    leaves = [x.clone().requires_grad_() for x in given]
    out = function(leaves[0], shapes, *leaves[1:])
    weight = torch.linspace(-1, 1, out.numel()).reshape(out.shape).to(out.dtype)
    (out * weight).sum().backward()
    return [out.detach(), *(x.grad for x in leaves)]


def no_places():
    """Locations that are infinite or no number count nothing, and have no gradient."""
    for place in (math.inf, -math.inf, math.nan, 3e38, -3e38):
        for axis in (0, 1):
            value, locations, weights = (
                torch.ones(1, 24, 1, 4),
                torch.full((1, 1, 1, 1, 2, 2), 0.5),
                torch.ones(1, 1, 1, 1, 2),
            )
            locations[..., 0, axis] = place
            out, *gradients = results(sample_levels_triton, [(4, 6)], (value, locations, weights))
            expected, *others = results(sample_levels, [(4, 6)], (value, locations, weights))
            if not torch.equal(out, torch.ones_like(out)) or not torch.allclose(out, expected):
                sys.exit(f"a sample at {place} counts {out - 1}")
            if gradients[1][..., 0, :].any() or gradients[2][..., 0].any():
                sys.exit(f"a sample at {place} has a gradient")
            if not all(torch.allclose(a, b, atol=1e-6) for a, b in zip(gradients, others, strict=True)):
                sys.exit(f"gradients at {place} differ")


def main():
    generator = torch.Generator().manual_seed(0)
    for shapes, (batch, queries, heads, dim, points), dtype in CASES:
        cells = sum(h * w for h, w in shapes)
        value = torch.randn(batch, cells, heads, dim, generator=generator).to(dtype)
        size = (batch, queries, heads, len(shapes), points)
        locations = (torch.rand(*size, 2, generator=generator) - 0.5) * 1.6 + 0.5
        some = torch.rand(size[:-1], generator=generator) > 0.9
        locations[..., 0, 0] += 1e6 * some  # far outside
        weights = torch.rand(size, generator=generator).to(dtype)
        given = (value, locations, weights)
        expected, found = (results(f, shapes, given) for f in (sample_levels, sample_levels_triton))
        tolerance = {torch.float32: 2e-5, torch.bfloat16: 6e-2, torch.float16: 1e-2}[dtype]
        for name, a, b in zip(("out", "value", "locations", "weights"), expected, found, strict=True):
            assert a.dtype == b.dtype and a.shape == b.shape, (name, shapes, a.dtype, b.dtype)
            apart = (a.float() - b.float()).abs().max().item() if a.numel() else 0.0
            scale = max(1.0, a.float().abs().max().item()) if a.numel() else 1.0
            if apart > tolerance * scale:
                sys.exit(f"{name} of {shapes} in {dtype}: {apart} apart")
    no_places()
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            try_out("cpu")
    print(f"{len(CASES)} cases agree")


if __name__ == "__main__":
    main()
