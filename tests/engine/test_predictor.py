"""A BGR picture goes to the model in the order, size and type that evaluation gives it."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import DatasetMapper, MetadataCatalog
from detectron2.data import transforms as T
from omegaconf import OmegaConf
from torch import nn

from itpn_d2.data import LabelledImageMapper, TestMapper
from itpn_d2.engine import ConfigError, Predictor, load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


class Recorder(nn.Module):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.given = []

    def forward(self, batch):
        self.given += batch
        return [{"instances": len(batch), "grad": torch.is_grad_enabled(), "training": self.training}]


def config(mapper, **dataset):
    return OmegaConf.create(
        {"dataloader": {"test": {"mapper": mapper}}, "dataset": dataset}, flags={"allow_objects": True}
    )


def picture():
    """Blue, green and red differ everywhere."""
    image = np.zeros((60, 80, 3), np.uint8)
    image[:] = 10, 100, 200
    return image


def resize(size=30):
    return [L(T.ResizeShortestEdge)(short_edge_length=size, max_size=100)]


@pytest.mark.parametrize(
    ("mapper", "order"),
    [
        (L(TestMapper)(augmentations=resize()), (200, 100, 10)),
        (L(DatasetMapper)(is_train=False, augmentations=resize(), image_format="RGB"), (200, 100, 10)),
        (L(DatasetMapper)(is_train=False, augmentations=resize(), image_format="BGR"), (10, 100, 200)),
    ],
)
def test_detection(mapper, order):
    model = Recorder()
    out = Predictor(config(mapper), model)(picture())
    assert out == {"instances": 1, "grad": False, "training": False}
    (sample,) = model.given
    assert (sample["height"], sample["width"]) == (60, 80)
    assert sample["image"].shape == (3, 30, 40) and sample["image"].dtype == torch.float32
    assert tuple(sample["image"][:, 3, 5].tolist()) == order


@pytest.mark.parametrize("kind", ["Quickstart/mask_rcnn_fast_itpn_nano", "Custom/classifier_fast_itpn_nano"])
def test_the_same_as_the_configs_mapper(tmp_path, kind):
    """A file read by OpenCV and predicted, and the same file through the test loader's mapper."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (9, 12, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "x.png"), cv2.resize(small, (200, 150)))
    cfg = load_config(str(CONFIGS / f"{kind}.py"))
    model = Recorder()
    Predictor(cfg, model)(cv2.imread(str(tmp_path / "x.png")))
    cfg.dataloader.test.mapper.pop("min_side", None)
    expected = instantiate(cfg.dataloader.test.mapper)({"file_name": str(tmp_path / "x.png"), "label": 0})
    assert torch.equal(model.given[0]["image"], expected["image"].to(model.given[0]["image"].dtype))


@pytest.mark.parametrize("image", [None, np.zeros((5, 5)), np.zeros((5, 5, 4)), "x.png"])
def test_no_picture(image):
    predict = Predictor(config(L(TestMapper)(augmentations=resize())), Recorder())
    with pytest.raises(ValueError, match="was it read"):
        predict(image)


def test_a_config_without_a_view():
    with pytest.raises(ConfigError, match="NoneType"):
        Predictor(OmegaConf.create({}), Recorder())
    with pytest.raises(ConfigError, match="list"):
        Predictor(config(L(list)()), Recorder())
    with pytest.raises(ConfigError, match="choose RGB or BGR"):
        mapper = L(DatasetMapper)(is_train=False, augmentations=[], image_format="L")
        Predictor(config(mapper), Recorder())


def test_metadata():
    mapper = L(TestMapper)(augmentations=[])
    known = Predictor(config(mapper, val={"name": "coco_2017_val"}), Recorder()).metadata
    assert len(known.thing_classes) == 80
    named = config(mapper, val={"name": "nobody_val"}, class_names=["a", "b"])
    assert Predictor(named, Recorder()).metadata.thing_classes == ["a", "b"]
    assert "nobody_val" not in MetadataCatalog.list()
    assert not Predictor(config(mapper), Recorder()).metadata.get("thing_classes")


def test_classification_takes_any_view():
    def view(image):
        return torch.tensor(np.asarray(image)[:2, :2]).permute(2, 0, 1)

    model = Recorder()
    Predictor(config(L(LabelledImageMapper)(view=view)), model)(picture())
    assert model.given[0]["image"][:, 0, 0].tolist() == [200, 100, 10]
