"""A backbone of a few thousand weights, with values that hide nothing."""

import pytest
import torch

from itpn_d2 import create_model

SMALL = dict(channels=(8, 16, 32), depths=(1, 1, 4), num_heads=2, pos_grid=(4, 4))


def strong_weights(model):
    """The usual initialisation hides mistakes behind small values."""
    for name, p in model.named_parameters():
        torch.nn.init.normal_(p, std=0.5 if p.ndim == 1 or "pos" in name else p.shape[-1] ** -0.5)
    return model


@pytest.fixture
def micro():
    """Builds the backbone of that name; the same weights at each call, but for parameters that only
    acceleration has, which keep their start."""

    def build(name="fast_itpn_nano", migration=None, gathering=None, **options):
        torch.manual_seed(0)
        model = create_model(name, pyramid=True, fpn_dim=24, **{**SMALL, **options}).eval()
        strong_weights(model).trunk.accelerate(migration, gathering)
        return model

    return build


@pytest.fixture
def padded():
    """``(image, sizes)``: two images of different shape in one batch, real up to ``sizes``, zeros beyond."""
    torch.manual_seed(1)
    sizes = [(96, 176), (160, 80)]
    image = torch.zeros(2, 3, 160, 192)
    for slot, (h, w) in zip(image, sizes, strict=True):
        slot[:, :h, :w] = torch.randn(3, h, w)
    return image, sizes
