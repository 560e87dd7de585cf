"""Pictures of predictions: what each panel shows; drawn whole, repeatable and true to angles."""

import cv2
import numpy as np
import pytest
import torch

from pretrain.targets import HOG, Pixels
from pretrain.visualize import Panel, _Colours, _glyphs, draw_predictions, prediction_picture, to_panels

TITLE, GAP = 34, 8  # pixels
MEAN = torch.tensor((123.675, 116.28, 103.53)).view(3, 1, 1)
STD = torch.tensor((58.395, 57.12, 57.375)).view(3, 1, 1)


def random_image(side=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, side, side), generator=generator, dtype=torch.uint8)


def patches(image, stride=16, normalised=True):
    """Pixel tokens in (row, column, channel) order, normalised as an image, then by their own deviation."""
    x = (image.float() - MEAN) / STD
    x = x.unfold(1, stride, stride).unfold(2, stride, stride).permute(1, 2, 3, 4, 0).flatten(2).flatten(0, 1)
    if normalised:
        x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1e-6).sqrt()
    return x


def half_masked(rows=2):
    mask = torch.zeros(rows, rows, dtype=torch.bool)
    mask[:, 0] = True
    return mask


def cut(picture, side, row=0):
    """The four panels of a row."""
    top = TITLE + row * (side + GAP)
    return [picture[top : top + side, x * (side + GAP) :][:, :side] for x in range(4)]


def rgb(image):
    return image.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("normalised", [True, False])
def test_pixels_are_put_back(normalised):
    image = random_image()
    tokens = patches(image, normalised=normalised)
    panel = Panel(image, half_masked(), tokens, tokens, "pixels", 16, normalised=normalised)
    shown = cut(prediction_picture([panel], side=32), 32)
    for part in (shown[0], shown[2], shown[3]):
        assert np.array_equal(part, rgb(image))
    assert (shown[1][:, :16] == 128).all() and np.array_equal(shown[1][:, 16:], rgb(image)[:, 16:])


def test_prediction_fills_masked_patches_only():
    image = random_image()
    tokens, zeros = patches(image, normalised=False), torch.zeros(4, 768)
    panel = Panel(image, half_masked(), zeros, tokens, "pixels", 16, normalised=False)
    shown = cut(prediction_picture([panel], side=32), 32)[2]
    assert (shown[:, :16] == np.rint(MEAN.flatten().numpy())).all()
    assert np.array_equal(shown[:, 16:], rgb(image)[:, 16:])
    panel.mask = torch.zeros(2, 2, dtype=torch.bool)  # nothing masked: the prediction of everything
    shown = cut(prediction_picture([panel], side=32), 32)[2]
    assert (shown == np.rint(MEAN.flatten().numpy())).all()


def hog_tokens(image, stride=16, cell=8):
    """Gradients by magnitude into 9 unsigned bins of atan2(gx, gy); (channel, cell row, cell column)."""
    planes = image.double().numpy()
    gy, gx = np.gradient(planes, axis=1), np.gradient(planes, axis=2)
    bins = np.floor(np.degrees(np.arctan2(gx, gy)) % 180 / 20).astype(int) % 9
    magnitude, (_, height, width) = np.hypot(gx, gy), planes.shape
    cells = np.zeros((27, height // cell, width // cell))
    for c, y, x in np.ndindex(planes.shape):
        cells[c * 9 + bins[c, y, x], y // cell, x // cell] += magnitude[c, y, x]
    side = stride // cell
    cut_cells = cells.reshape(27, height // stride, side, width // stride, side).transpose(1, 3, 0, 2, 4)
    return torch.from_numpy(cut_cells.reshape((height // stride) * (width // stride), -1))


def line_angle(glyph):
    """Degrees of a drawn line against the x axis, counter-clockwise as seen, 0..180."""
    y, x = np.nonzero(glyph > 0.5 * glyph.max())
    points = np.stack((x - x.mean(), y.mean() - y))
    return np.degrees(np.arctan2(*np.linalg.eigh(np.cov(points))[1][::-1, 1])) % 180


@pytest.mark.parametrize("angle", [0, 30, 45, 90, 130, 170])
def test_hog_lines_run_along_the_stripes(angle):
    y, x = np.mgrid[:64, :64]
    across = x * np.sin(np.radians(angle)) + y * np.cos(np.radians(angle))  # y points down
    stripes = (127 + 100 * np.sin(across * 0.6)).astype(np.uint8)
    image = torch.from_numpy(stripes).expand(3, -1, -1)
    tokens = hog_tokens(image)
    panel = Panel(image, torch.ones(4, 4, dtype=torch.bool), tokens, tokens, "hog", 16)
    target = cut(prediction_picture([panel], side=256), 256)[3][..., 0]
    glyph = target[96:128, 128:160]  # one cell of 8 pixels, four times enlarged
    difference = (line_angle(glyph.astype(float)) - angle + 90) % 180 - 90
    assert abs(difference) <= 10.5  # half a bin, and the raster


def test_hog_cells_keep_their_place():
    tokens = torch.zeros(4, 108)
    tokens.view(4, 27, 2, 2)[1, 4, 1, 0] = 1.0  # token (0, 1), cell (1, 0): vertical edge of red
    panel = Panel(random_image(), torch.ones(2, 2, dtype=torch.bool), tokens * 0.5, tokens, "hog", 16)
    _, _, prediction, target = cut(prediction_picture([panel], side=256), 256)
    y, x = np.nonzero(target[..., 0])
    assert y.min() >= 64 and y.max() < 128 and x.min() >= 128 and x.max() < 192
    assert x.max() - x.min() < 16 and y.max() - y.min() > 48
    assert abs(int(prediction.max()) - int(target.max()) // 2) <= 1  # on the brightness scale of the target


def test_glyphs_turn_by_twenty_degrees():
    assert all(abs(line_angle(glyph) - (20 * k + 10)) < 2 for k, glyph in enumerate(_glyphs(64)))


def test_hog_without_edges_is_black():
    zeros, mask = torch.zeros(4, 108), torch.ones(2, 2, dtype=torch.bool)
    panel = Panel(random_image(), mask, zeros - 1, zeros, "hog", 16)
    shown = cut(prediction_picture([panel], side=32), 32)
    assert not shown[2].any() and not shown[3].any()


def test_features_share_one_projection():
    generator = torch.Generator().manual_seed(0)
    targets = [torch.randn(4, 16, generator=generator) * torch.linspace(5, 0.1, 16) for _ in range(3)]
    mask = torch.ones(2, 2, dtype=torch.bool)

    def drawn(predictions):
        panels = [
            Panel(random_image(), mask, p, t, "features", 16)
            for p, t in zip(predictions, targets, strict=True)
        ]
        picture = prediction_picture(panels, side=32)
        return [cut(picture, 32, row)[2:] for row in range(3)]

    for prediction, target in drawn(targets):
        assert np.array_equal(prediction, target)
    moved = drawn([targets[1], targets[2], targets[0]])
    for i in range(3):  # a token has its colour wherever it stands
        assert np.array_equal(moved[i][0], moved[(i + 1) % 3][1])
    far = drawn([torch.full((4, 16), 1e3)] * 3)
    assert np.array_equal(far[0][1], moved[0][1])  # predictions have no part in the fit
    assert set(np.unique(far[0][0])) <= {0, 255}


def test_colours_follow_the_largest_variance():
    tokens = np.random.default_rng(0).standard_normal((500, 8)) * [1, 9, 1, 1, 5, 1, 3, 1]
    colours = _Colours([tokens[:200], tokens[200:]])
    assert np.abs(colours.axes).argmax(0).tolist() == [1, 4, 6]
    assert (colours.axes[[1, 4, 6], range(3)] > 0.9).all()
    order = np.argsort(tokens[:, 1])
    red = colours(tokens)[order, 0].astype(int)
    assert red[:50].mean() < 80 and red[-50:].mean() > 170
    few = _Colours([tokens[:, :2]])(tokens[:, :2])
    assert few.shape == (500, 3) and (few[:, 2] == 128).all()


@pytest.mark.parametrize("target", [HOG(), Pixels(), Pixels(normalise=False)])
def test_draws_what_methods_return(target):
    """A prediction that is the target, of two images, through the targets of this package."""
    images = torch.stack([random_image(), random_image(seed=1)])
    tokens = target.tokens((images - MEAN) / STD, 16)
    predicted = {"image": images.float(), "mask": half_masked().expand(2, 2, 2), "prediction": tokens}
    predicted |= {"target": tokens, "stride": 16, "kind": target.name}
    panels = to_panels(predicted, normalised=target.normalise)
    picture = prediction_picture(panels, side=32)
    for row, image in enumerate(images):
        shown = cut(picture, 32, row)
        assert np.array_equal(shown[0], rgb(image))
        assert np.array_equal(shown[2][:, :16], shown[3][:, :16])
        if target.name == "pixels":
            assert np.array_equal(shown[3], rgb(image))


def test_written_whole_and_repeatable(tmp_path):
    image = random_image(64)
    tokens = patches(image)
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[1, 2] = True
    panels = [
        Panel(image, mask, tokens * 0.5, tokens, "pixels", 16),
        Panel(image, half_masked(), hog_tokens(image) * 0.5, hog_tokens(image), "hog", 16),
        Panel(image, mask, tokens[:, :40] * 0.5, tokens[:, :40], "features", 16),
    ]
    for name in ("a", "b"):
        draw_predictions(panels, tmp_path / "new" / f"{name}.png")
    first, second = ((tmp_path / "new" / f"{name}.png").read_bytes() for name in "ab")
    assert first == second
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["a.png", "b.png"]
    picture = cv2.imread(str(tmp_path / "new" / "a.png"))[..., ::-1]
    assert picture.shape == (TITLE + 3 * (256 + GAP), 4 * (256 + GAP), 3)  # 64 pixels four times: above 240
    assert np.array_equal(picture, prediction_picture(panels))
    assert (picture[:TITLE] < 128).any(axis=(0, 2)).reshape(4, -1).any(1).all()  # every column has a title


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "depth"}, "kind 'depth': choose"),
        ({"stride": 12}, "image 32x32: must divide"),
        ({"mask": torch.zeros(3, 3, dtype=torch.bool)}, "3x3 units"),
        ({"target": torch.zeros(4, 5)}, "both need 4 tokens, 2x2"),
        ({"prediction": torch.zeros(9, 768), "target": torch.zeros(9, 768)}, "both need 4 tokens"),
        (
            {"prediction": torch.zeros(4, 9), "target": torch.zeros(4, 9)},
            "9 values per token; pixels have 768",
        ),
        ({"kind": "hog"}, "768 values per token; HOG has 27"),
        (
            {"kind": "hog", "prediction": torch.zeros(4, 54), "target": torch.zeros(4, 54)},
            "54 values per token",
        ),
    ],
)
def test_refuses_panels(change, message):
    image = random_image()
    fields = {"image": image, "mask": half_masked(), "prediction": patches(image), "target": patches(image)}
    with pytest.raises(ValueError, match=message):
        Panel(**{**fields, "kind": "pixels", "stride": 16, **change})


def test_refuses_pictures():
    with pytest.raises(ValueError, match="no panel"):
        prediction_picture([])
    image = random_image()
    panels = [
        Panel(image, half_masked(), torch.zeros(4, w), torch.zeros(4, w), "features", 16) for w in (8, 9)
    ]
    with pytest.raises(ValueError, match="several widths"):
        prediction_picture(panels)
