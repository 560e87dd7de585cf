"""Views: geometry against an image whose colours are coordinates, and what randomness depends on."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import ColorJitter, RandomResizedCrop
from torchvision.transforms import functional as TF

from pretrain.data import BrokenImageError, TestView, TrainView, views
from pretrain.data.colour import ColourJitter

WIDTH, HEIGHT = 400, 300


def gradient(width=WIDTH, height=HEIGHT):
    """Red is 250 x / width, green 250 y / height, at pixel centres."""
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    return Image.fromarray(np.round(np.stack((x, y, 0 * x), -1) * 250).astype(np.uint8))


def extent(view):
    """(left, top, right, bottom) that a view of the gradient shows, as fractions of the image; mirrored views
    have left > right."""
    red, green = view[0].double() / 250, view[1].double() / 250
    size = view.shape[-1]
    middle = slice(size // 4, size - size // 4)  # filters bend the ramp at the borders
    at = (torch.arange(size)[middle] + 0.5) / size

    def line(values):
        slope, start = np.polyfit(at.numpy(), values.numpy(), 1)
        return start, start + slope

    (left, right), (top, bottom) = line(red.mean(0)[middle]), line(green.mean(1)[middle])
    return np.array([left, top, right, bottom])


@pytest.mark.parametrize("position", range(6))
def test_both_views_show_the_drawn_crop(position):
    view = TrainView(size=64, teacher_size=96, teacher_interpolation="lanczos", seed=3)
    box, flip = view.draw(WIDTH, HEIGHT, position)
    expected = np.array(box) / (WIDTH, HEIGHT, WIDTH, HEIGHT)
    if flip:
        expected = expected[[2, 1, 0, 3]]
    seen = view(gradient(), position)
    assert seen["image"].shape == (3, 64, 64) and seen["teacher_image"].shape == (3, 96, 96)
    for image in seen.values():
        assert image.dtype == torch.uint8 and image.is_contiguous()
        assert np.abs(extent(image) - expected).max() < 0.01


def test_a_whole_crop_is_the_image_and_its_mirror_image():
    square = gradient(64, 64)
    views = [TrainView(size=64, scale=(1, 1), ratio=(1, 1), seed=1)(square, p)["image"] for p in range(20)]
    whole = torch.from_numpy(np.array(square)).permute(2, 0, 1)
    mirrored = [torch.equal(v, whole.flip(-1)) for v in views]
    assert all(m or torch.equal(v, whole) for v, m in zip(views, mirrored, strict=True))
    assert 4 <= sum(mirrored) <= 16
    still = TrainView(size=64, scale=(1, 1), ratio=(1, 1), flip=False)
    assert all(torch.equal(still(square, p)["image"], whole) for p in range(20))


@pytest.mark.parametrize("size", [(400, 300), (37, 211), (1, 1), (1000, 3)])
def test_crops_stay_inside(size):
    view = TrainView(scale=(0.3, 0.8), ratio=(0.5, 2))
    for position in range(300):
        (left, top, right, bottom), _ = view.draw(*size, position)
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]


@pytest.mark.parametrize("size", [(400, 300), (200, 600)])
def test_crops_are_distributed_as_torchvisions(size):
    scale, ratio, count = (0.2, 0.9), (0.5, 2.0), 1500
    view, canvas = TrainView(scale=scale, ratio=ratio, seed=1), torch.empty(3, size[1], size[0])
    ours = np.array([view.draw(*size, p)[0] for p in range(count)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [RandomResizedCrop.get_params(canvas, list(scale), list(ratio)) for _ in range(count)]
    theirs = np.array([(x, y, x + w, y + h) for y, x, h, w in drawn])
    sides = [np.hstack((b, b[:, 2:] - b[:, :2])) / max(size) for b in (ours, theirs)]
    first, second = (np.quantile(s, (0.1, 0.3, 0.5, 0.7, 0.9), axis=0) for s in sides)
    assert np.abs(first - second).max() < 0.04


def test_randomness_is_seed_and_position_only():
    view, image = TrainView(size=32, seed=5), gradient()
    torch.manual_seed(0)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    first = view(image, 7)["image"]
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    view(image, 8)
    assert torch.equal(view(image, 7)["image"], first)
    assert not torch.equal(view(image, 8)["image"], first)
    assert not torch.equal(TrainView(size=32, seed=6)(image, 7)["image"], first)


def test_another_size_draws_the_same_crops():
    for position in range(4):
        views = [TrainView(size=s, seed=2)(gradient(), position)["image"] for s in (32, 80)]
        assert np.abs(extent(views[0]) - extent(views[1])).max() < 0.015


@pytest.mark.parametrize("decoder", ["auto", "pillow"])
@pytest.mark.parametrize("position", range(4))
def test_jpeg_shortcut_shows_the_same(tmp_path, position, decoder, monkeypatch):
    gradient(1600, 1200).save(tmp_path / "big.jpg", quality=95)
    view, sizes = TrainView(size=32, teacher_size=48, seed=4, decoder=decoder), []
    cut = views._cut
    monkeypatch.setattr(views, "_cut", lambda pixels, *a: sizes.append(np.shape(pixels)) or cut(pixels, *a))
    with Image.open(tmp_path / "big.jpg") as image:
        quick = view(image, position)
    assert len(sizes) == 2 and max(sizes) < (1200, 1600)
    whole = view(Image.open(tmp_path / "big.jpg").convert("RGB"), position)
    for name in ("image", "teacher_image"):
        assert (quick[name].int() - whole[name].int()).abs().float().mean() < 1.5


def test_exif_turn_comes_before_the_crop(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    gradient().transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    view = TrainView(size=48, seed=9)
    with Image.open(tmp_path / "turned.png") as image:
        assert torch.equal(view(image, 3)["image"], view(gradient(), 3)["image"])


@pytest.mark.parametrize("fraction", [1.0, 0.875])
def test_middle_square(fraction):
    seen = TestView(size=64, crop_fraction=fraction)(gradient())["image"]
    half = fraction * HEIGHT / 2
    expected = [0.5 - half / WIDTH, 0.5 - half / HEIGHT, 0.5 + half / WIDTH, 0.5 + half / HEIGHT]
    assert seen.shape == (3, 64, 64) and np.abs(extent(seen) - expected).max() < 0.01


def test_damage_reaches_the_caller_as_such(tmp_path):
    gradient().save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:2000])
    for view in (TrainView(), TestView()):
        with Image.open(tmp_path / "a.jpg") as image, pytest.raises(BrokenImageError, match="truncated"):
            view(image, 0)


@pytest.mark.parametrize(
    "options",
    [
        dict(size=0),
        dict(teacher_size=0),
        dict(scale=(0, 1)),
        dict(scale=(0.5, 0.2)),
        dict(ratio=(2, 1)),
        dict(interpolation="cubic"),
        dict(teacher_interpolation=""),
        dict(colour_jitter=-0.1),
        dict(colour_jitter=(0.1, 0.2)),
    ],
)
def test_train_view_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options)).removeprefix("teacher_")):
        TrainView(**options)


@pytest.mark.parametrize("options", [dict(size=0), dict(crop_fraction=0), dict(crop_fraction=1.1)])
def test_test_view_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        TestView(**options)


def test_colours_are_torchvisions(random_picture):
    """The same kinds in the same order by the same factors give the same pixels."""
    kinds = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation)
    jitter = ColourJitter((0.4, 0.3, 0.8))
    for seed in range(6):
        expected = random_picture
        for kind, factor in jitter.draw(np.random.default_rng(seed)):
            expected = kinds[kind](expected, factor)
        assert jitter(random_picture, np.random.default_rng(seed)).tobytes() == expected.tobytes()


def test_colours_are_distributed_as_torchvisions():
    theirs, jitter = ColorJitter(0.4, 0.3, 1.5), ColourJitter((0.4, 0.3, 1.5))
    for ours, bounds in zip(
        jitter.ranges, (theirs.brightness, theirs.contrast, theirs.saturation), strict=True
    ):
        assert ours == tuple(bounds)
    drawn = [jitter.draw(np.random.default_rng(k)) for k in range(600)]
    orders = [tuple(kind for kind, _ in d) for d in drawn]
    assert len(set(orders)) == 6 and min(orders.count(o) for o in set(orders)) > 60
    factors = np.array([[dict(d)[k] for k in range(3)] for d in drawn])
    for column, (low, high) in zip(factors.T, jitter.ranges, strict=True):
        assert low <= column.min() < low + 0.02 * (high - low) and column.max() > high - 0.02 * (high - low)


@pytest.fixture
def random_picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))


def test_both_views_have_the_colours_of_one_jitter(random_picture):
    options = dict(size=32, teacher_size=32, seed=3)
    plain, coloured = TrainView(**options), TrainView(**options, colour_jitter=0.4)
    changed = []
    for position in range(6):
        assert plain.draw(50, 40, position) == coloured.draw(50, 40, position)
        before, after = plain(random_picture, position), coloured(random_picture, position)
        assert torch.equal(after["image"], after["teacher_image"])
        again = coloured(random_picture, position)
        assert torch.equal(after["image"], again["image"])
        changed.append(not torch.equal(before["image"], after["image"]))
    assert all(changed)
    ratio = [coloured(random_picture, p)["image"].float().mean() for p in range(6)]
    assert max(ratio) > 1.1 * min(ratio)
