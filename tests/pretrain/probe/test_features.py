"""Features of a loader's images: which map, which statistics, in which order."""

import pytest
import torch
from PIL import Image
from torch import nn

from itpn_d2.backbone import create_model
from pretrain.data import BrokenImages, TestView, build_image_loader, image_folder
from pretrain.probe import TrunkFeatures, extract_features

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return create_model("fast_itpn_nano", pyramid=True, pos_grid=(2, 2)).eval()


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, 32, 48), generator=generator, dtype=torch.uint8)


def colours(root):
    """Two classes of three plain images, each of its own brightness."""
    for i in range(6):
        path = root / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (40 * i, 40 * i, 40 * i)).save(path)
    return image_folder(str(root), labelled=True)


class Mean(nn.Module):
    def forward(self, image):
        assert not torch.is_grad_enabled() and not self.training
        return image.float().mean((2, 3))


@torch.no_grad()
def test_vectors_are_means_of_maps(backbone, images):
    normal = (images.float() - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    maps = backbone.trunk(normal)
    levels = backbone.pyramid(*maps)
    expected = {"f3": maps[-1].mean((1, 2))} | {n: levels[n].mean((2, 3)) for n in ("p2", "p3", "p4")}
    for level, vectors in expected.items():
        model = TrunkFeatures(backbone.trunk, pyramid=backbone.pyramid, level=level)
        torch.testing.assert_close(model(images), vectors)
        assert torch.equal(model(images), model(images.float()))


@torch.no_grad()
def test_any_image_size_will_do(backbone, images):
    model = TrunkFeatures(backbone.trunk).eval()
    assert model(images[..., :30, :41]).shape == (2, 192)


def test_refuses_levels(backbone):
    with pytest.raises(ValueError, match="level 'p7': choose from f3, p2, p3, p4"):
        TrunkFeatures(backbone.trunk, level="p7")
    with pytest.raises(ValueError, match="level 'p2' belongs to the pyramid"):
        TrunkFeatures(backbone.trunk, level="p2")


def test_statistics_are_not_saved(backbone):
    assert not [k for k in TrunkFeatures(backbone.trunk).state_dict() if "pixel" in k]


def test_extracts_in_order(tmp_path):
    source = colours(tmp_path)
    loader = build_image_loader(source, TestView(16), batch_size=4)
    model = Mean().train()
    features, labels = extract_features(model, loader)
    assert features.shape == (6, 3) and features.dtype == torch.float32
    assert features[:, 0].tolist() == [0, 80, 160, 40, 120, 200]  # class a, then class b
    assert labels.tolist() == [0, 0, 0, 1, 1, 1] and labels.dtype == torch.int64
    assert model.training  # as it was


def test_runs_in_the_type_asked_for(tmp_path, backbone):
    loader = build_image_loader(colours(tmp_path), TestView(32), batch_size=3)
    model = TrunkFeatures(backbone.trunk)
    exact, _ = extract_features(model, loader)
    half, _ = extract_features(model, loader, dtype=torch.bfloat16)
    assert half.dtype == torch.float32 and not torch.equal(half, exact)
    torch.testing.assert_close(half, exact, rtol=0.1, atol=0.1)


def test_notes_broken_images(tmp_path):
    source = colours(tmp_path)
    (tmp_path / "a" / "2.png").write_bytes(b"broken")
    broken = BrokenImages()
    features, labels = extract_features(Mean(), build_image_loader(source, TestView(16), 4), broken=broken)
    assert len(features) == len(labels) == 6 and list(broken.reasons) == [source.path(1)]


def test_needs_labels(tmp_path):
    colours(tmp_path)
    loader = build_image_loader(image_folder(str(tmp_path)), TestView(16), batch_size=4)
    with pytest.raises(ValueError, match="labelled=True"):
        extract_features(Mean(), loader)
    with pytest.raises(ValueError, match="no batch"):
        extract_features(Mean(), [])
