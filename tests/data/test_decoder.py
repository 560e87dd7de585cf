"""The quicker libraries' pixels are Pillow's, and Pillow takes what they can't."""

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from itpn_d2.data import decoder
from itpn_d2.data.decode import BrokenImageError, open_image, pixels
from itpn_d2.data.read import read_image
from itpn_d2.errors import ConfigError

# luminance's sampling over the colours', as OpenCV writes it: 4:4:4, 4:2:2, 4:2:0, 4:1:1, 4:4:0, 4:4:1
SAMPLINGS = (0x111111, 0x211111, 0x221111, 0x411111, 0x121111, 0x141111)


def soft(width, height, seed=0):
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def noise(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def apart(a, b):
    assert a.shape == b.shape and a.dtype == b.dtype == np.uint8
    return int(np.abs(a.astype(int) - b).max())


def both(path):
    return [read_image(path, decoder=name) for name in ("torchvision", "pillow")]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_jpegs_are_pillows(tmp_path, sampling, monkeypatch):
    decoded = []
    monkeypatch.setattr(
        "itpn_d2.data.decode.decode_jpeg", lambda *a: decoded.append(1) or decoder.decode_jpeg(*a)
    )
    path, count = tmp_path / "a.jpg", 0
    for width, height in ((64, 48), (37, 211), (1, 1), (130, 17)):
        for content in (soft(width, height), noise(width, height)):
            for quality in (5, 50, 95, 100):
                for progressive in (0, 1):
                    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
                    options += [
                        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
                        sampling,
                        cv2.IMWRITE_JPEG_RST_INTERVAL,
                        quality % 3,
                    ]
                    path.write_bytes(cv2.imencode(".jpg", content, options)[1].tobytes())
                    assert apart(*both(path)) <= 2
                    count += 1
    assert len(decoded) == count  # it was asked for each


@pytest.mark.parametrize("how", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
@pytest.mark.parametrize("content", [soft, noise])
def test_sizes_are_pillows(how, content):
    random = np.random.default_rng(1)
    for number in range(40):
        width, height, new_width, new_height = (int(v) for v in random.integers(1, 150, 4))
        picture = content(width, height, number)
        view = picture[:, ::-1] if number % 3 else picture  # flipped, as augmentations leave it
        # along rows first, as Pillow went before version 13, which chooses: what a bicubic filter overshoots
        # in the first pass is cut off, so that the order shows in noise
        rows = Image.fromarray(view).resize((new_width, height), how)
        expected = np.asarray(rows.resize((new_width, new_height), how))
        assert decoder.can_resize(view, how)
        assert apart(decoder.resize(view, new_height, new_width, how), expected) <= 2


@pytest.mark.parametrize(
    "kind", ["png", "grey png", "palette", "16 bits", "webp", "cmyk", "grey", "turned", "transparent", "mpo"]
)
def test_other_pictures_are_the_same(tmp_path, kind):
    picture, path, options = Image.fromarray(soft(40, 30)), tmp_path / "a.jpg", {}
    if kind in ("png", "grey png", "palette", "16 bits", "transparent"):
        path = tmp_path / "a.png"
    if kind == "webp":
        path = tmp_path / "a.webp"
    modes = {"grey png": "L", "palette": "P", "cmyk": "CMYK", "grey": "L", "transparent": "RGBA"}
    picture = picture.convert(modes.get(kind, "RGB"))
    if kind == "transparent":
        picture.putalpha(128)
    if kind == "16 bits":
        picture = Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50)
    if kind == "turned":
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = 6
    if kind == "mpo":
        options.update(format="MPO", save_all=True, append_images=[picture])
    picture.save(path, **options)
    quick, slow = both(path)
    assert apart(quick, slow) <= 2
    assert quick.shape == ((40, 30, 3) if kind == "turned" else (30, 40, 3))


@pytest.mark.parametrize("progressive", [False, True])
def test_damage_is_seen_alike(tmp_path, progressive):
    """Cut off anywhere, or with bytes changed: both read it to the same pixels, or both refuse it."""
    whole, random = io.BytesIO(), np.random.default_rng(2)
    Image.fromarray(soft(80, 60)).save(whole, "JPEG", quality=80, progressive=progressive)
    data = whole.getvalue()
    broken = [data[:n] for n in range(0, len(data), len(data) // 40)]
    for _ in range(120):
        changed = bytearray(data)
        for place in random.integers(0, len(data), random.integers(1, 4)):
            changed[place] = random.integers(256)
        broken.append(bytes(changed))
    path, seen = tmp_path / "a.jpg", set()
    for content in broken:
        path.write_bytes(content)
        found = []
        for name in ("torchvision", "pillow"):
            try:
                found.append(read_image(path, decoder=name))
            except BrokenImageError as error:
                found.append(str(error))
        if isinstance(found[1], str):
            assert found[0] == found[1]
        else:
            assert apart(*found) <= 2
        seen.add(type(found[0]))
    assert seen == {np.ndarray, str}


def test_a_picture_that_was_read_already_is_pillows(tmp_path):
    Image.fromarray(noise(20, 10)).save(tmp_path / "a.jpg")
    with open_image(str(tmp_path / "a.jpg")) as image:
        first = pixels(image)
        image.load()
        assert apart(first, pixels(image)) <= 2


def test_the_decoder_is_one_of_three(refused):
    assert decoder.is_quick("auto") and not decoder.is_quick("pillow")
    with pytest.raises(ConfigError, match=r"dataloader\.decoder='cv2'.*auto, pillow, torchvision"):
        decoder.is_quick("cv2")


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_smaller_jpegs_are_pillows(tmp_path, sampling):
    """Sizes around those at which a division by 2, 4 or 8 begins, and pictures of a few pixels."""
    path, seen = tmp_path / "a.jpg", set()
    for width, height in ((64, 48), (37, 211), (7, 5), (4, 4), (130, 17), (161, 121)):
        options = [cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
        path.write_bytes(cv2.imencode(".jpg", noise(width, height), options)[1].tobytes())
        for reduction in (1, 1.9, 2, 2.1, 3.9, 4, 4.5, 8, 9, 100):
            found = []
            for name in ("auto", "pillow"):
                with open_image(str(path)) as image:
                    found.append(pixels(image, name, reduction))
            assert apart(*found) <= 2, (width, height, reduction)
            seen.add(round(width / found[0].shape[1]))
    assert seen >= {1, 2, 4, 8}


def test_pillow_is_not_needed_for_smaller_jpegs(tmp_path, monkeypatch):
    Image.fromarray(soft(640, 480)).save(tmp_path / "a.jpg")
    monkeypatch.setattr("itpn_d2.data.decode.decode", None)
    with open_image(str(tmp_path / "a.jpg")) as image:
        assert pixels(image, "auto", 2.5).shape == (240, 320, 3)


def test_crops_stay_rows_of_pixels():
    """What is resized is stored pixel by pixel, a crop too: later steps are many times slower otherwise."""
    view = soft(90, 70)[10:50, 20:80]
    for size in ((30, 40), (80, 90)):
        assert decoder.resize(view, *size).strides == (3 * size[1], 3, 1)


def test_planes():
    picture = noise(13, 7)
    for view in (picture, picture[:, ::-1], picture[2:5, 1:9]):
        found = decoder.planes(view)
        assert found.flags.c_contiguous and (found == view.transpose(2, 0, 1)).all()
        assert torch.from_numpy(found).is_contiguous()
