"""The losses of constant predictions: known mixtures, a real config, and errors of use."""

import pytest
import torch
from PIL import Image

from itpn_d2.engine import load_config
from itpn_d2.lazy.build import build
from pretrain.probe.constant import constant_losses, main, measure

CONFIG = "configs/Pretrain/{}_fast_itpn_nano.py"


def test_losses_of_a_known_mixture():
    torch.manual_seed(0)
    images, places, rest = torch.randn(300, 1, 8), torch.randn(1, 300, 8), torch.randn(300, 300, 8)
    found = constant_losses(3 + images + 2 * places + 0.5 * rest)
    assert found["constant"] == pytest.approx(1 + 4 + 0.25, rel=0.1)
    assert found["place"] == pytest.approx(1 + 0.25, rel=0.1)
    assert found["image"] == pytest.approx(4 + 0.25, rel=0.1)


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        Image.effect_noise((64, 64), 20 + 10 * i).convert("RGB").save(tmp_path / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize(
    ("method", "name", "width"), [("fastmim_hog", "hog", 108), ("pixel_mim", "pixels", 768)]
)
def test_it_measures_the_views_of_the_run(folder, method, name, width, monkeypatch):
    """As the run itself would: the loss of FastMIM for a prediction of the mean is the constant's."""
    overrides = [f"dataset.train.root={folder}", "dataloader.train.total_batch_size=4"]
    overrides += ["dataloader.train.num_workers=0", "dataloader.train.view.size=64"]
    seen = []
    monkeypatch.setattr("pretrain.probe.constant.constant_losses", lambda targets: seen.append(targets))
    cfg = load_config(CONFIG.format(method), overrides)
    assert measure(cfg, 7)[0] == name
    (targets,) = seen
    assert targets.shape == (7, 16, width) and not torch.equal(targets[0], targets[1])
    if method == "fastmim_hog":
        mean = targets.mean((0, 1)).expand_as(targets)
        loss = build(cfg.model).loss(mean, targets, torch.ones(7, 4, 4, dtype=torch.bool), (4, 4))
        assert constant_losses(targets)["constant"] == pytest.approx(loss.item(), rel=1e-4)


def test_command(folder, capsys, refused):
    options = [f"dataset.train.root={folder}", "dataloader.train.num_workers=0"]
    call = ["--config-file", CONFIG.format("fastmim_hog"), "--num-images", "6", *options]
    assert main(call) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("loss_hog")
    constant, place, image = (float(line.split()[-1]) for line in lines[1:])
    assert 0 < place < constant and 0 < image < constant
    with refused("MFM come from a network; this command needs PixelMIM"):
        main(["--config-file", CONFIG.format("mfm"), *options])
    with pytest.raises(SystemExit):
        main(["--config-file", CONFIG.format("fastmim_hog"), "--num-images", "1"])
