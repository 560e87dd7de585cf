"""Pictures of every kind, good and bad, and what is expected of each."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def good(tmp_path):
    """A folder of files that have to be read, and the (height, width) that each is to be seen in."""
    folder = tmp_path / "good"
    folder.mkdir()
    return folder, write_good(folder)


@pytest.fixture
def bad(tmp_path):
    """A folder of files that can't be read, and a word of the reason each."""
    folder = tmp_path / "bad"
    folder.mkdir()
    return folder, write_bad(folder)


def colours(width=40, height=24):
    """RGB whose red grows to the right and whose green grows downwards."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack((x * 255 // (width - 1), y * 255 // (height - 1), np.full_like(x, 60)), -1).astype(
        "uint8"
    )


def write_good(folder):
    rgb = colours()
    Image.fromarray(rgb).save(folder / "plain.png")
    Image.fromarray(rgb[..., 0]).save(folder / "grey.png")
    Image.fromarray(np.dstack((rgb, rgb[..., 0]))).save(folder / "rgba.png")
    Image.fromarray(rgb[..., 0].astype(np.uint16) * 257).save(folder / "wide.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgb).save(folder / "turned.jpg", exif=exif)
    Image.fromarray(rgb[:1, :1]).save(folder / "one.png")
    Image.fromarray(np.tile(rgb, (1, 750, 1))[:2]).save(folder / "long.png")
    sizes = dict.fromkeys(("plain.png", "grey.png", "rgba.png", "wide.png"), (24, 40))
    return {**sizes, "turned.jpg": (40, 24), "one.png": (1, 1), "long.png": (2, 30000)}


def write_bad(folder):
    whole = folder / ".whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
    (folder / "cut.png").write_bytes(whole.read_bytes()[:3000])
    whole.unlink()
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("not an image")
    return {"cut.png": "truncated", "empty.jpg": "it is empty", "text.png": "cannot identify"}
