"""A micro backbone of either family."""

import pytest
import torch

from itpn_d2.backbone import create_model

SIZES = dict(channels=(16, 16, 32), depths=(1, 1, 4), num_heads=2, fpn_dim=16, pyramid=True, pos_grid=(4, 4))


@pytest.fixture
def micro():
    """Builds one: ``micro(name, **options)``."""

    def build(name="fast_itpn_nano", **options):
        torch.manual_seed(0)
        return create_model(name, **{**SIZES, **options})

    return build


@pytest.fixture
def images():
    """uint8 batches: ``images(count, size, seed)``."""

    def build(count=2, size=(64, 64), seed=0):
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)

    return build
