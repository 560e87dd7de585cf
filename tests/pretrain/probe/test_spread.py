"""Spread of features: known mixtures, and the command."""

import pytest
import torch
from PIL import Image

from pretrain.probe.spread import main, spread


@pytest.mark.parametrize(("image", "place"), [(1.0, 0.0), (0.0, 1.0), (0.5, 0.2), (0.0, 0.0)])
def test_shares_of_a_known_mixture(image, place):
    torch.manual_seed(0)
    maps = (
        image**0.5 * torch.randn(60, 1, 1, 32)
        + place**0.5 * torch.randn(1, 8, 8, 32)
        + (1 - image - place) ** 0.5 * torch.randn(60, 8, 8, 32)
    )
    found = spread(maps)
    assert found.of_image == pytest.approx(image, abs=0.08)
    assert found.of_place == pytest.approx(place, abs=0.08)
    assert found.rms == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("dimensions", [1, 4, 16])
def test_directions_are_counted(dimensions):
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(24, 24)).Q[:dimensions]
    found = spread(3 + torch.randn(40, 8, 8, dimensions) @ basis)
    assert found.dimensions == pytest.approx(dimensions, rel=0.05)


def test_constant_maps_have_none():
    found = spread(torch.ones(2, 4, 4, 8))
    assert found.rms == 1 and found.of_image == found.of_place == 0


@pytest.mark.parametrize("shape", [(1, 4, 4, 8), (4, 1, 1, 8)])
def test_too_few(shape):
    with pytest.raises(ValueError, match="at least two of each are needed"):
        spread(torch.ones(shape))


def test_command(tmp_path, capsys, refused):
    for i in range(4):
        Image.effect_noise((48, 48), 20 + 10 * i).convert("RGB").save(tmp_path / f"{i}.png")
    common = ["--name", "fast_itpn_nano", "--images", str(tmp_path), "--image-size", "48"]
    assert main([*common, "--random", "--num-images", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["rms", "f3", "p2", "p3", "p4"]
    assert all(float(line.split()[2]) >= 1 for line in lines[1:])
    assert main([*common, "--weights", "itpn://fast_itpn_nano"]) == 0  # addresses are known here too
    assert capsys.readouterr().out.splitlines()[1:] != lines[1:]
    with refused("none.pth"):
        main([*common, "--weights", str(tmp_path / "none.pth")])
