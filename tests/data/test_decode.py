"""Every kind of pixel becomes upright 8-bit RGB, and every kind of damage one kind of error."""

import struct

import numpy as np
import pytest
from PIL import Image

from itpn_d2.data.decode import BrokenImageError, decode, open_image, upright_size


def read(path, reduction=1.0):
    with open_image(str(path)) as image:
        size = upright_size(image)
        pixels = decode(image, reduction)
    assert pixels.mode == "RGB"
    return size, np.asarray(pixels)


def ramp(width=32, height=24):
    """RGB whose red grows to the right and whose green grows downwards."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack((x * 255 // (width - 1), y * 255 // (height - 1), np.full_like(x, 60)), -1).astype(
        "uint8"
    )


def test_grey_and_bilevel(tmp_path):
    grey = ramp()[..., 0]
    Image.fromarray(grey).save(tmp_path / "l.png")
    assert (read(tmp_path / "l.png")[1] == grey[..., None]).all()
    Image.fromarray(grey > 100).save(tmp_path / "1.png")
    assert (read(tmp_path / "1.png")[1] == 255 * (grey > 100)[..., None]).all()


def test_sixteen_bits_keep_the_upper_eight(tmp_path):
    wide = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    for name in ("g.png", "g.tif"):
        Image.fromarray(wide).save(tmp_path / name)
        assert (read(tmp_path / name)[1] == (wide >> 8)[..., None]).all()
    Image.fromarray(wide.astype(np.int32)).save(tmp_path / "i.tif")
    assert (read(tmp_path / "i.tif")[1] == (wide >> 8)[..., None]).all()


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_floats(tmp_path, scale):
    Image.fromarray(np.float32([[0, 0.5, 1]]) * np.float32(scale)).save(tmp_path / "f.tif")
    assert read(tmp_path / "f.tif")[1][..., 0].tolist() == [[0, 127, 255]]


def test_transparency_shows_white(tmp_path):
    rgba = np.dstack((ramp(), np.full((24, 32), 255, np.uint8)))
    rgba[:12, :, 3] = 0
    expected = np.where(rgba[..., 3:] > 0, rgba[..., :3], 255)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    assert (read(tmp_path / "rgba.png")[1] == expected).all()
    Image.fromarray(rgba).convert("LA").save(tmp_path / "la.png")
    assert (read(tmp_path / "la.png")[1][:12] == 255).all()


def test_palettes(tmp_path):
    image = Image.fromarray(ramp()).quantize(16)
    expected = np.asarray(image.convert("RGB"))
    image.save(tmp_path / "p.png")
    image.save(tmp_path / "p.gif")
    for name in ("p.png", "p.gif"):
        assert (read(tmp_path / name)[1] == expected).all()
    image.save(tmp_path / "t.png", transparency=0)
    hidden = np.asarray(image) == 0
    assert (read(tmp_path / "t.png")[1] == np.where(hidden[..., None], 255, expected)).all()


def test_cmyk(tmp_path):
    Image.fromarray(ramp()).convert("CMYK").save(tmp_path / "c.jpg", quality=95)
    assert np.abs(read(tmp_path / "c.jpg")[1].astype(int) - ramp()).mean() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns(tmp_path, orientation):
    upright = Image.fromarray(ramp())
    undo = {6: "ROTATE_90", 8: "ROTATE_270", 3: "ROTATE_180", 2: "FLIP_LEFT_RIGHT", 4: "FLIP_TOP_BOTTOM"}
    undo |= {5: "TRANSPOSE", 7: "TRANSVERSE"}
    stored = upright.transpose(Image.Transpose[undo[orientation]]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "o.png", exif=exif)
    size, pixels = read(tmp_path / "o.png")
    assert size == (32, 24) and (pixels == ramp()).all()


def test_a_damaged_exif_block_is_no_damage(tmp_path):
    Image.fromarray(ramp()).save(tmp_path / "e.jpg", exif=b"Exif\0\0garbage-in-here")
    assert read(tmp_path / "e.jpg")[1].shape == (24, 32, 3)


@pytest.mark.parametrize("reduction, side", [(1.9, 128), (2, 64), (5, 32), (100, 16)])
def test_jpeg_is_decoded_smaller(tmp_path, reduction, side):
    Image.fromarray(ramp(128, 128)).save(tmp_path / "j.jpg", quality=95)
    size, pixels = read(tmp_path / "j.jpg", reduction)
    assert size == (128, 128) and pixels.shape == (side, side, 3)
    assert np.abs(pixels.astype(int) - ramp(side, side)).mean() < 4


def damaged(folder):
    whole = folder / "whole.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
    (folder / "cut.jpg").write_bytes(whole.read_bytes()[:1500])
    Image.fromarray(ramp()).save(folder / "whole.png")
    (folder / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:60])
    (folder / "text.png").write_text("not an image")
    (folder / "empty.jpg").touch()
    (folder / "folder.png").mkdir()
    (folder / "bomb.bmp").write_bytes(
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 30000, 30000, 1, 24, 0, 0, 0, 0, 0, 0)
    )
    (folder / "flat.bmp").write_bytes(
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 0, 5, 1, 24, 0, 0, 0, 0, 0, 0)
    )
    return ("cut.jpg", "cut.png", "text.png", "empty.jpg", "folder.png", "bomb.bmp", "flat.bmp", "none.jpg")


def test_damage_is_one_kind_of_error_with_a_reason(tmp_path):
    reasons = {}
    for name in damaged(tmp_path):
        with pytest.raises(BrokenImageError) as error:
            read(tmp_path / name)
        reasons[name] = str(error.value)
        assert "\n" not in reasons[name]
    assert "truncated" in reasons["cut.jpg"]
    assert "UnidentifiedImageError" in reasons["text.png"]
    assert "ITPN_D2_MAX_PIXELS=900000000" in reasons["bomb.bmp"]
    assert "not a regular file" in reasons["folder.png"]
    assert "FileNotFoundError" in reasons["none.jpg"]


def test_errors_of_the_caller_stay_what_they_are(tmp_path):
    Image.fromarray(ramp()).save(tmp_path / "a.png")
    with pytest.raises(ZeroDivisionError), open_image(str(tmp_path / "a.png")):
        _ = 1 / 0
