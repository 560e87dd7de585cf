"""Whole images and windows, training losses, and sizes of the results."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import nn

from itpn_d2 import create_model
from itpn_d2.backbone.shapes import pyramid_shapes
from itpn_d2.heads import FCNHead, UPerNetHead
from itpn_d2.meta_arch import ImageSegmentor
from itpn_d2.meta_arch.windows import slide, window_starts

SIZES = {"channels": (8, 16, 32), "depths": (1, 1, 1), "num_heads": 2, "fpn_dim": 16}


@pytest.mark.parametrize(
    ("length", "window", "stride", "starts"),
    [
        (512, 512, 341, [0]),
        (513, 512, 341, [0, 1]),
        (853, 512, 341, [0, 341]),
        (854, 512, 341, [0, 341, 342]),
        (2048, 512, 341, [0, 341, 682, 1023, 1364, 1536]),
        (10, 4, 4, [0, 4, 6]),
    ],
)
def test_windows_cover_the_length(length, window, stride, starts):
    assert window_starts(length, window, stride) == starts
    covered = {p for s in starts for p in range(s, s + window)}
    assert covered == set(range(length))


@pytest.mark.parametrize("batch", [1, 3, 50])
@pytest.mark.parametrize("size", [(20, 31), (5, 40), (8, 8)])
def test_what_does_not_look_around_gives_the_same_in_windows(size, batch):
    torch.manual_seed(0)
    image = torch.randn(3, *size)
    pixelwise = nn.Conv2d(3, 4, 1)
    with torch.no_grad():
        found = slide(pixelwise, image, (8, 8), (5, 6), batch)
        assert torch.allclose(found, pixelwise(image[None])[0], atol=1e-6)


def test_windows_that_overlap_are_averaged():
    values = iter([1.0, 3.0])
    found = slide(lambda w: w[:, :1] * 0 + next(values), torch.zeros(3, 4, 6), (4, 4), (4, 2))
    assert found[0, 0].tolist() == [1, 1, 2, 2, 3, 3]


def segmentor(**options):
    torch.manual_seed(0)
    backbone = create_model(
        "fast_itpn_nano", pyramid=True, concat_trunk=True, out_features=("p2", "p3", "p4", "p5"), **SIZES
    )
    shapes = pyramid_shapes("fast_itpn_nano", fpn_dim=16, concat_trunk=True, channels=SIZES["channels"])
    return ImageSegmentor(
        backbone=backbone,
        sem_seg_head=UPerNetHead(shapes, num_classes=4, channels=32, norm="GN", dropout=0.0),
        auxiliary_head=FCNHead({"p4": shapes["p4"]}, num_classes=4, channels=32, norm="GN", dropout=0.0),
        **options,
    )


def sample(height, width, seed=0, **extra):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    return {"image": image, "sem_seg": torch.randint(0, 4, (height, width), generator=generator), **extra}


def test_training_has_both_losses_and_reaches_the_patches():
    model = segmentor()
    losses = model([sample(64, 96), sample(70, 50, 1)])
    assert losses.keys() == {"loss_sem_seg", "loss_auxiliary"}
    assert losses["loss_auxiliary"].item() == pytest.approx(0.4 * 1.386, rel=0.2)  # log 4 before training
    sum(losses.values()).backward()
    assert model.backbone.trunk.patch_embed.proj.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("window", [None, 64, (64, 32)])
def test_results_have_the_size_that_is_asked_for(window):
    model = segmentor(window=window, window_batch=2).eval()
    with torch.no_grad():
        found = model([sample(70, 90, height=35, width=45), sample(33, 40, 1)])
    assert [tuple(f["sem_seg"].shape) for f in found] == [(4, 35, 45), (4, 33, 40)]
    assert all(torch.isfinite(f["sem_seg"]).all() for f in found)


def test_a_window_as_large_as_the_image_changes_nothing():
    model = segmentor().eval()
    one = sample(64, 64)
    with torch.no_grad():
        whole = model([one])[0]["sem_seg"]
        model.window, model.stride = (64, 64), (43, 43)
        assert torch.allclose(model([one])[0]["sem_seg"], whole, atol=1e-5)


def test_the_other_images_of_a_batch_do_not_matter():
    """Of another size too, but for the means that pyramid pooling takes over the padding: so, windows."""
    model = segmentor(window=64).eval()
    with torch.no_grad():
        alone = model([sample(64, 80)])[0]["sem_seg"]
        beside = model([sample(64, 80), sample(120, 130, 1)])[0]["sem_seg"]
    assert torch.allclose(alone, beside, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stride": 10}, "give window"),
        ({"window": 64, "stride": 65}, "gaps"),
        ({"window": 64, "stride": 0}, "gaps"),
    ],
)
def test_windows_that_can_not_be(options, words):
    with pytest.raises(ValueError, match=words):
        segmentor(**options)


def test_the_default_stride_is_the_references():
    assert segmentor(window=512).stride == (341, 341)


class Means(Backbone):
    """p2: the mean colour of each 4x4 cell."""

    def forward(self, x):
        return {"p2": nn.functional.avg_pool2d(x, 4)}

    def output_shape(self):
        return {"p2": ShapeSpec(channels=3, stride=4)}


def test_it_learns_colours():
    """Left and right half of the image, told apart by nothing but colour."""
    torch.manual_seed(0)
    head = FCNHead(
        {"p2": ShapeSpec(channels=3, stride=4)}, num_classes=2, channels=32, norm="GN", dropout=0.0
    )
    model = ImageSegmentor(backbone=Means(), sem_seg_head=head)
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    image[0, :, :16], image[2, :, 16:] = 200, 200
    labels = (torch.arange(32) >= 16).long().expand(32, 32)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        sum(model([{"image": image, "sem_seg": labels}]).values()).backward()
        optimizer.step()
    with torch.no_grad():
        found = model.eval()([{"image": image, "height": 64, "width": 64}])[0]["sem_seg"].argmax(0)
    assert (found[:, ::2][::2] == labels).float().mean() > 0.9
