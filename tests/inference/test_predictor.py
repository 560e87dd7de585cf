"""A picture goes to the model in the order, size and type that evaluation gives it, alone or among others."""

from concurrent.futures import ThreadPoolExecutor
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
from PIL import Image
from torch import nn

import itpn_d2
from itpn_d2.checkpoint import CheckpointError, atomic_save
from itpn_d2.data import LabelledImageMapper, TestMapper
from itpn_d2.engine import load_config
from itpn_d2.errors import ConfigError
from itpn_d2.inference import Predictor, read_image

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
    out = Predictor(config(mapper), model=model)(picture())
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
    Predictor(cfg, model=model)(cv2.imread(str(tmp_path / "x.png")))
    cfg.dataloader.test.mapper.pop("min_side", None)
    expected = instantiate(cfg.dataloader.test.mapper)({"file_name": str(tmp_path / "x.png"), "label": 0})
    assert torch.equal(model.given[0]["image"], expected["image"].to(model.given[0]["image"].dtype))


def test_a_config_without_a_view():
    with pytest.raises(ConfigError, match="NoneType"):
        Predictor(OmegaConf.create({}), model=Recorder())
    with pytest.raises(ConfigError, match="list"):
        Predictor(config(L(list)()), model=Recorder())
    with pytest.raises(ConfigError, match="choose RGB or BGR"):
        mapper = L(DatasetMapper)(is_train=False, augmentations=[], image_format="L")
        Predictor(config(mapper), model=Recorder())


def test_metadata():
    mapper = L(TestMapper)(augmentations=[])
    known = Predictor(config(mapper, val={"name": "coco_2017_val"}), model=Recorder()).metadata
    assert len(known.thing_classes) == 80
    named = config(mapper, val={"name": "nobody_val"}, class_names=["a", "b"])
    assert Predictor(named, model=Recorder()).metadata.thing_classes == ["a", "b"]
    assert "nobody_val" not in MetadataCatalog.list()
    assert not Predictor(config(mapper), model=Recorder()).metadata.get("thing_classes")


def test_classification_takes_any_view():
    def view(image):
        return torch.tensor(np.asarray(image)[:2, :2]).permute(2, 0, 1)

    model = Recorder()
    Predictor(config(L(LabelledImageMapper)(view=view)), model=model)(picture())
    assert model.given[0]["image"][:, 0, 0].tolist() == [200, 100, 10]


@pytest.fixture(scope="module")
def predict(trained):
    return Predictor(trained / "config.yaml", trained / "model_final.pth", "cpu")


def same(a, b, atol=1e-4):
    a, b = a["instances"], b["instances"]
    return (
        len(a) == len(b) > 0
        and torch.allclose(a.pred_boxes.tensor, b.pred_boxes.tensor, atol=atol)
        and torch.allclose(a.scores, b.scores, atol=atol)
        and (a.pred_masks == b.pred_masks).float().mean() > 0.999
    )


def test_from_the_folder_of_a_run(predict, good):
    """Path, Pillow image and array, one by one and as a batch: all the same."""
    assert itpn_d2.Predictor is Predictor
    assert predict.metadata.thing_classes[0] == "disc" and not predict.model.training
    folder, sizes = good
    paths = [folder / name for name in sizes if sizes[name] == (24, 40)]
    together = predict(paths)
    assert len(together) == len(paths) == 4
    for path, found in zip(paths, together, strict=True):
        assert same(found, predict(str(path)), 1e-3)
        assert same(found, predict(read_image(path)[..., ::-1]), 1e-3)
        with Image.open(path) as image:
            assert same(found, predict(image), 1e-3)


def test_a_batch_of_different_sizes(predict, good):
    """Each in its own pixels; convolutions of the heads see the padding beside an image, as in Detectron2."""
    folder, sizes = good
    found = predict([folder / name for name in sizes])
    assert [f["instances"].image_size for f in found] == list(sizes.values())
    assert all(len(f["instances"]) == 5 for f in found)
    alone = predict(folder / "turned.jpg")["instances"].scores
    assert torch.allclose(found[4]["instances"].scores, alone, atol=0.02)


def test_the_longest_picture(predict, good):
    found = predict(good[0] / "long.png")["instances"]
    assert found.image_size == (2, 30000) and len(found) == 5
    assert float(found.pred_boxes.tensor[:, 2].max()) <= 30000


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_a_stream_goes_on(predict, good, bad, batch_size):
    names = [*(good[0] / n for n in good[1]), *(bad[0] / n for n in bad[1]), None, np.zeros((0, 3, 3))]
    names = names[::2] + names[1::2]  # mixed
    found = list(predict.stream(iter(names), batch_size))
    assert [p.source for p in found[:5]] == names[:5] and len(found) == len(names)
    for prediction in found:
        name = getattr(prediction.source, "name", None)
        if name in good[1]:
            assert prediction.error is None and prediction.image.shape[:2] == good[1][name]
            assert prediction.output["instances"].image_size == good[1][name]
        else:
            assert prediction.output is None
            assert bad[1].get(name, "") in prediction.error and "\n" not in prediction.error


def test_a_batch_that_fails_is_tried_one_by_one():
    class Fragile(Recorder):
        def forward(self, batch):
            if len(batch) > 1 or int(batch[0]["image"].max()) == 13:
                raise RuntimeError("out of\nmemory")
            return [{"instances": "found"}]

    predict = Predictor(config(L(TestMapper)(augmentations=resize())), model=Fragile())
    images = [np.full((20, 20, 3), value, np.uint8) for value in (1, 13, 2)]
    found = [(p.output, p.error) for p in predict.stream(images, batch_size=3)]
    good = ({"instances": "found"}, None)
    assert found == [good, (None, "RuntimeError: out of memory"), good]


def test_threads_get_what_one_gets_alone(predict, good):
    paths = [good[0] / name for name in good[1] if name != "long.png"] * 3
    alone = [predict(path) for path in paths]
    with ThreadPoolExecutor(6) as pool:
        assert all(same(a, b) for a, b in zip(alone, pool.map(predict, paths), strict=True))


def test_time_of_each_stage(predict, good):
    found = predict.timed(good[0] / "plain.png")
    assert list(found.seconds) == ["preprocess", "trunk", "pyramid", "heads"]
    assert all(seconds > 0 for seconds in found.seconds.values())
    assert same(found.output, predict(good[0] / "plain.png"))


def run(trained, **options):
    return Predictor(trained / "config.yaml", trained / "model_final.pth", "cpu", **options)


def test_bf16_is_close(predict, trained, good):
    found = run(trained, dtype="bf16")(good[0] / "plain.png")["instances"]
    expected = predict(good[0] / "plain.png")["instances"]
    assert len(found) == len(expected)
    assert torch.allclose(found.scores.float().sort().values, expected.scores.sort().values, atol=0.02)


@pytest.mark.slow
def test_compiled_is_the_same(predict, trained, good):
    compiled = run(trained, compile=True)
    for name in ("plain.png", "turned.jpg"):
        assert same(compiled(good[0] / name), predict(good[0] / name), 1e-3)


def test_migration_and_gathering(predict, trained, good):
    path = good[0] / "plain.png"
    assert predict.exits(path) is None
    faster = run(trained, migration={"keep": 0.5}, gathering={"window": 4})
    image, exits = faster.exits(path)
    assert image.shape[:2] == (96, 160) and exits.shape == (6, 10) and exits.min() < exits.max() == 2
    assert not torch.equal(faster(path)["instances"].scores, predict(path)["instances"].scores)
    dense = run(trained, migration={"keep": 1.0})
    assert same(dense(path), predict(path))


def test_weights_of_another_model(trained, tmp_path):
    config, weights = trained / "config.yaml", trained / "model_final.pth"
    more = ["dataset.num_classes=7", "dataset.class_names=null"]
    with pytest.raises(CheckpointError, match=r"box_predictor.cls_score.weight: file \(6, .*config.yaml"):
        Predictor(config, weights, "cpu", overrides=more)
    with pytest.raises(CheckpointError, match="weights of another model"):
        Predictor(config, weights, "cpu", overrides=["model.backbone.depths=[1,1,3]"])
    with pytest.raises(CheckpointError, match="no such file"):
        Predictor(config, tmp_path / "x.pth", "cpu")
    with pytest.raises(ConfigError, match="no weights; give a file"):
        Predictor(config)
    with pytest.raises(ConfigError, match="no such file, and no model 'mask_rcn'"):
        Predictor("mask_rcn", weights)
    boxes = torch.load(weights, weights_only=True)["model"]
    partial = {k: v for k, v in boxes.items() if "mask_head" not in k}
    atomic_save({"model": partial}, tmp_path / "boxes.pth")
    with pytest.raises(CheckpointError, match="roi_heads.mask_head"):
        Predictor(config, tmp_path / "boxes.pth", "cpu")
    with pytest.raises(ConfigError, match="fp16 needs CUDA"):
        run(trained, dtype="fp16")


def test_classes_that_only_the_data_knows(trained, tmp_path):
    custom = CONFIGS / "Custom" / "mask_rcnn_fast_itpn_nano.py"
    (tmp_path / "w.pth").write_bytes((trained / "model_final.pth").read_bytes())
    with pytest.raises(ConfigError, match="its classes come from the data.*dataset.num_classes=N"):
        Predictor(custom, tmp_path / "w.pth", "cpu")
    # beside the config.yaml of the run the classes are known, and the sizes are then what differs
    with pytest.raises(CheckpointError, match="another size"):
        Predictor(custom, trained / "model_final.pth", "cpu")
