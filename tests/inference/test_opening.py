"""What `demo.py --input PHOTO` and the web page run without a config: the detector in the package."""

import json

import cv2
import numpy as np
import pytest

from itpn_d2 import Predictor
from itpn_d2.boxed import DETECTOR, boxed_folder
from itpn_d2.commands.app import choices_of
from itpn_d2.commands.app import parser as app_parser
from itpn_d2.commands.demo import main
from itpn_d2.errors import ConfigError, ZooError
from itpn_d2.inference.opening import open_predictor

CLASSES = ["nucleus", "red blood cell", "white blood cell", "platelet"]


@pytest.fixture(scope="module")
def nuclei():
    """Bright, blurred discs on a dark ground, as stained nuclei under a fluorescence microscope, and their
    boxes."""
    rng = np.random.default_rng(0)
    image = np.full((256, 256), 12.0, np.float32)
    boxes = []
    for row in range(4):
        for column in range(4):
            x, y = (32 + 64 * np.array([column, row]) + rng.integers(-8, 9, 2)).tolist()
            radius = int(rng.integers(9, 15))
            cv2.circle(image, (x, y), radius, float(rng.integers(90, 170)), -1)
            boxes.append([x - radius, y - radius, x + radius, y + radius])
    image = cv2.GaussianBlur(image, (0, 0), 1.5) + rng.normal(0, 3, image.shape)
    return np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, 2), np.array(boxes, float)


def overlap(a, b):
    corner, end = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = np.prod(np.maximum(end - corner, 0))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


def test_it_sees_nuclei(nuclei):
    image, boxes = nuclei
    predict = open_predictor(None, device="cpu")
    assert predict.metadata.thing_classes == CLASSES
    found = predict(image)["instances"]
    sure = found[found.scores > 0.5]
    seen = [any(overlap(b, box) > 0.5 for box in sure.pred_boxes.tensor.numpy()) for b in boxes]
    assert sum(seen) >= 12
    assert (sure.pred_classes == 0).float().mean() > 0.9


def test_half_precision_and_a_padded_batch(nuclei):
    image, _ = nuclei
    predict = open_predictor(None, device="cpu", dtype="bf16")
    background = np.full((120, 300, 3), 200, np.uint8)
    found = predict([image, image[:160], background])
    sure = [int((one["instances"].scores > 0.5).sum()) for one in found]
    assert sure[0] >= 12 and sure[1] >= 6 and sure[2] <= 2


def test_it_is_small_and_says_what_it_is():
    folder = boxed_folder(DETECTOR)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12e6
    card = (folder / "README.md").read_text()
    assert all(words in card for words in ("Data:", "Licence:", "microscope", "AP"))


def test_the_command_without_a_config(nuclei, tmp_path, caplog):
    cv2.imwrite(str(tmp_path / "nuclei.png"), nuclei[0])
    out = tmp_path / "out"
    assert main(["--input", str(tmp_path / "nuclei.png"), "--output", str(out), "--device", "cpu"]) == 0
    assert len(json.loads((out / "instances.json").read_text())) > 10
    assert (out / "pictures").is_dir()


def test_a_folder_of_save_pretrained(nuclei):
    folder = str(boxed_folder(DETECTOR))
    for given in (folder, f"package://{DETECTOR}"):
        assert len(open_predictor(given, device="cpu")(nuclei[0])["instances"]) > 10
    with pytest.raises(
        ZooError, match="package://x: not in the package, which holds package://fast_itpn_nano"
    ):
        open_predictor("package://x")
    for given, words in (
        ((None, "x.pth"), "--weights: the model is unknown; give --config-file FILE"),
        ((folder, "x.pth"), "--weights: the model is unknown"),
        ((None, None, ["a=1"]), "overrides: the model is unknown"),
    ):
        with pytest.raises(ConfigError, match=words):
            open_predictor(*given)


@pytest.mark.parametrize("given", ["hf://org/name", "https://huggingface.co/org/name/tree/v1"])
def test_a_repository_of_the_hub(given, monkeypatch):
    seen = []
    monkeypatch.setattr(Predictor, "from_pretrained", lambda *a, **options: seen.append((a, options)))
    open_predictor(given, device="cpu")
    assert seen == [((given,), {"device": "cpu"})]


def test_a_config_is_opened_as_before(monkeypatch):
    monkeypatch.setattr(Predictor, "__init__", lambda self, *given, **options: seen.append((given, options)))
    seen = []
    open_predictor("a.yaml", "b.pth", ["c=1"], device="cpu")
    assert seen == [(("a.yaml", "b.pth"), {"overrides": ["c=1"], "device": "cpu"})]


def test_the_page_without_a_config():
    assert choices_of(app_parser().parse_args([])) == {DETECTOR: (None, None)}
