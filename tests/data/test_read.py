"""Training, evaluation, drawing and prediction see the same array, whatever the kind of picture."""

import itertools
import os

import numpy as np
import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances
from PIL import Image

from itpn_d2.data import SemanticMapper, TestMapper, TrainMapper
from itpn_d2.data.decode import (
    MAX_PIXELS,
    BrokenImageError,
    LargeImageError,
    decode,
    open_image,
    upright_size,
)
from itpn_d2.data.mapper import read_record
from itpn_d2.data.read import read_image
from itpn_d2.errors import DatasetError
from itpn_d2.evaluation import prediction_grid
from pretrain.data import TestView

WIDTH, HEIGHT = 24, 16
COLOURS = np.random.default_rng(5).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY = COLOURS[..., 0]
ALPHA = np.dstack((COLOURS, np.where(GREY > 90, 255, GREY))).astype(np.uint8)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)


def palette(path, **options):
    Image.fromarray(COLOURS).quantize(16).save(path, **options)


KINDS = {
    "8 bits.png": lambda p: save(p, COLOURS),
    "grey.png": lambda p: save(p, GREY),
    "grey and alpha.png": lambda p: Image.fromarray(ALPHA).convert("LA").save(p),
    "1 bit.png": lambda p: save(p, GREY > 90),
    "16 bits.png": lambda p: save(p, GREY.astype(np.uint16) * 257),
    "12 bits in 16.png": lambda p: save(p, GREY.astype(np.uint16) * 16),
    "16 bits.tif": lambda p: save(p, GREY.astype(np.uint16) * 257),
    "32 bits.tif": lambda p: save(p, GREY.astype(np.int32) * 257),
    "float.tif": lambda p: save(p, GREY.astype(np.float32) / 255),
    "float 255.tif": lambda p: save(p, GREY.astype(np.float32)),
    "float nan.tif": lambda p: save(p, np.where(GREY > 200, np.nan, GREY).astype(np.float32)),
    "alpha.png": lambda p: save(p, ALPHA),
    "alpha.webp": lambda p: save(p, ALPHA, lossless=True),
    "palette.png": palette,
    "palette and transparency.png": lambda p: palette(p, transparency=3),
    "palette.gif": palette,
    "cmyk.jpg": lambda p: Image.fromarray(COLOURS).convert("CMYK").save(p),
    "cmyk.tif": lambda p: Image.fromarray(COLOURS).convert("CMYK").save(p),
    "ycbcr.jpg": lambda p: save(p, COLOURS),
}


def seen(path):
    """What each of those that read pictures makes of one."""
    record = {"file_name": str(path), "image_id": 1, "annotations": []}
    yield "predictor", read_image(path)
    yield "picture", read_image(Image.open(path))
    yield "training", TrainMapper([], use_instance_mask=False)(record)["image"].permute(1, 2, 0).numpy()
    yield "evaluation", TestMapper([])(record)["image"].permute(1, 2, 0).numpy()
    yield "reversed", TestMapper([], image_format="BGR")(record)["image"].permute(1, 2, 0).numpy()[..., ::-1]
    with open_image(str(path)) as image:
        yield "decoded", np.asarray(decode(image))


@pytest.mark.parametrize("kind", KINDS)
def test_all_see_the_same(tmp_path, kind):
    KINDS[kind](tmp_path / kind)
    for (_, first), (name, other) in itertools.pairwise(seen(tmp_path / kind)):
        assert first.shape == (HEIGHT, WIDTH, 3) and first.dtype == np.uint8
        assert np.array_equal(first, other), name


@pytest.mark.parametrize("kind", ["16 bits.png", "float.tif", "alpha.png"])
def test_what_is_drawn_and_pretrained_on_is_what_is_seen(tmp_path, kind):
    KINDS[kind](tmp_path / kind)
    expected = read_image(tmp_path / kind)
    with open_image(str(tmp_path / kind)) as image:
        view = TestView(HEIGHT, 1.0)(image)["image"].permute(1, 2, 0).numpy()
    left = (WIDTH - HEIGHT) // 2
    assert np.array_equal(view, expected[:, left : left + HEIGHT])
    nothing = Instances((HEIGHT, WIDTH), pred_boxes=Boxes(torch.zeros(0, 4)))
    nothing.scores, nothing.pred_classes = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    drawn = prediction_grid(
        [{"file_name": str(tmp_path / kind)}], [{"instances": nothing}], Metadata(), side=WIDTH
    )
    assert any(
        np.array_equal(drawn[y : y + HEIGHT, :WIDTH], expected) for y in range(len(drawn) - HEIGHT + 1)
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tif", "jpg", "webp"])
def test_exif_turns_are_the_same_everywhere(tmp_path, orientation, ending):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{ending}"
    Image.fromarray(COLOURS).save(path, exif=exif, **({"lossless": True} if ending == "webp" else {}))
    views = dict(seen(path))
    size = (HEIGHT, WIDTH) if orientation < 5 else (WIDTH, HEIGHT)
    assert all(np.array_equal(view, views["predictor"]) for view in views.values())
    assert views["predictor"].shape[:2] == size
    with open_image(str(path)) as image:
        assert upright_size(image) == size[::-1]
        if ending == "png":
            assert not getattr(image, "_im", None), "its pixels were read for the size"
    if ending != "jpg":
        turns = {1: (0, 0), 2: (0, 1), 3: (2, 0), 4: (2, 1), 5: (1, 1), 6: (3, 0), 7: (3, 1), 8: (1, 0)}
        quarters, mirrored = turns[orientation]
        expected = np.rot90(COLOURS[:, ::-1] if mirrored else COLOURS, quarters)
        assert np.array_equal(views["predictor"], expected)


def test_a_png_whose_exif_block_is_behind_its_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOURS).save(tmp_path / "a.png", exif=exif)
    raw = (tmp_path / "a.png").read_bytes()
    start = raw.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(raw[start : start + 4], "big")
    tail = raw.index(b"IEND") - 4
    (tmp_path / "b.png").write_bytes(raw[:start] + raw[end:tail] + raw[start:end] + raw[tail:])
    with open_image(str(tmp_path / "b.png")) as image:
        assert upright_size(image) == (HEIGHT, WIDTH)
    assert np.array_equal(read_image(tmp_path / "b.png"), read_image(tmp_path / "a.png"))


def test_the_limit_of_pixels_can_be_raised(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 150)  # Pillow refuses twice as many
    save(tmp_path / "large.png", COLOURS)
    with pytest.raises(LargeImageError, match=f"384 pixels exceed the limit of 300.*{MAX_PIXELS}=384"):
        read_image(tmp_path / "large.png")
    monkeypatch.setenv(MAX_PIXELS, "384")
    assert read_image(tmp_path / "large.png").shape == (HEIGHT, WIDTH, 3)
    monkeypatch.setenv(MAX_PIXELS, "383")
    with pytest.raises(LargeImageError, match="exceed the limit of 383"):
        read_image(tmp_path / "large.png")
    monkeypatch.setenv(MAX_PIXELS, "many")
    with pytest.raises(BrokenImageError, match="ITPN_D2_MAX_PIXELS=many"):
        read_image(tmp_path / "large.png")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BrokenImageError, match="not a regular file"):
        read_image(tmp_path / "pipe.png")


def test_errors_name_the_record(tmp_path):
    save(tmp_path / "a.png", COLOURS)
    with pytest.raises(DatasetError, match=r"a\.png: the image is 24x16, but its record says 10x16"):
        read_record({"file_name": str(tmp_path / "a.png"), "width": 10, "height": 16})
    with pytest.raises(DatasetError, match=r"none\.png: the image can't be read"):
        TestMapper([])({"file_name": str(tmp_path / "none.png")})
    for mapper in (TestMapper, TrainMapper, SemanticMapper):
        with pytest.raises(ValueError, match="choose RGB or BGR"):
            mapper([], image_format="L")
