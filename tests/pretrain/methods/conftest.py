"""A micro backbone of either family."""

import pytest
import torch

from pretrain.encoders import build_backbone

SIZES = dict(channels=(16, 16, 32), depths=(1, 1, 4), num_heads=2, fpn_dim=16, image_size=64)


@pytest.fixture
def micro():
    """Builds one: ``micro(name, **options)``."""

    def build(name="fast_itpn_nano", **options):
        torch.manual_seed(0)
        return build_backbone(name, **{**SIZES, **options})

    return build


@pytest.fixture
def images():
    """uint8 batches: ``images(count, size, seed)``."""

    def build(count=2, size=(64, 64), seed=0):
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)

    return build
