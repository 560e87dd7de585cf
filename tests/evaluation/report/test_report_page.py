"""The page: whole, self-contained, with everything that was measured in it, and never the end of an
evaluation."""

import html.parser
import re

import numpy as np
import pytest
import torch
from detectron2.config import LazyConfig
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from PIL import Image

from itpn_d2.data import register_scenes
from itpn_d2.evaluation.report import ReportEvaluator


class Parsed(html.parser.HTMLParser):
    """Titles, texts of cells, and addresses of a page."""

    def __init__(self, page):
        super().__init__()
        self.titles, self.cells, self.addresses, self._in = [], [], [], None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self._in = tag
        self.addresses += [v for k, v in attrs if k in ("src", "href")]
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data):
        if self._in == "h2" and data.strip():
            self.titles.append(data.strip())
        elif self._in == "td":
            self.cells[-1] += data.strip()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return register_scenes("report_val", "val", 4, 64, 2, root=str(tmp_path_factory.mktemp("scenes")))


def perfect(record, masks=True, shift=0):
    """The ground truth of a record as predictions."""
    found = Instances((record["height"], record["width"]))
    boxes = torch.tensor([a["bbox"] for a in record["annotations"]], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    found.pred_boxes = Boxes(boxes + shift)
    found.scores = torch.linspace(0.9, 0.8, len(boxes))
    found.pred_classes = torch.tensor([a["category_id"] for a in record["annotations"]])
    if masks:
        from pycocotools import mask as mask_util

        decoded = [mask_util.decode(a["segmentation"]) for a in record["annotations"]]
        found.pred_masks = torch.from_numpy(np.stack(decoded)) > 0
    return {"instances": found}


def evaluated(dataset, outputs, **options):
    evaluator = ReportEvaluator(dataset, **options)
    evaluator.reset()
    for record, output in zip(DatasetCatalog.get(dataset), outputs, strict=True):
        evaluator.process([{**record}], [output])
    assert evaluator.evaluate() is None
    return evaluator


METRICS = {"bbox": {"AP": 51.25, "AP-star": 7.0, "APs": float("nan")}, "segm": {"AP": 40.0}}


def test_detections(dataset, tmp_path):
    records = DatasetCatalog.get(dataset)
    outputs = [perfect(r, shift=25 * (i == 2)) for i, r in enumerate(records)]
    outputs[2]["instances"].pred_masks[:] = False
    evaluator = evaluated(dataset, outputs, images=2)
    assert evaluator.write(tmp_path / "r.html", METRICS, {"model": "<b>R-CNN</b>"})
    page = (tmp_path / "r.html").read_text()
    found = Parsed(page)
    expected = ["Metrics", "Boxes: AP by class and size", "Masks: AP by class and size"]
    assert found.titles == [*expected, "Confusion", "Worst images", "Best images"]
    assert {"51.2", "40.0", "–", "disc", "ring"} <= set(found.cells) and "7.0" not in found.cells
    assert "&lt;b&gt;R-CNN" in page and "<b>R-CNN" not in page
    # the images by score: the one with the lost masks is the worst
    captions = re.findall(r"<figcaption>(.*?): F1 (.*?), mean IoU (.*?)</figcaption>", page)
    assert [c[0] for c in captions][0] == "00002.png" and float(captions[0][1]) == 0
    assert len(captions) == 4 and {c[1] for c in captions[2:]} == {"1.00"}
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_nothing_comes_from_outside(dataset, tmp_path):
    evaluated(dataset, map(perfect, DatasetCatalog.get(dataset))).write(tmp_path / "r.html", METRICS, {})
    page = (tmp_path / "r.html").read_text()
    addresses = Parsed(page).addresses
    assert sum(a.startswith("data:image/") for a in addresses) >= 8
    assert all(a.startswith(("data:image/", "#s")) for a in addresses)
    assert (
        "url(" not in page
        and "@import" not in page
        and "<script" not in page
        and "//" not in re.sub(r"base64,[^\"]*", "", page)
    )


def test_boxes_alone_and_nothing_found(dataset, tmp_path):
    records = DatasetCatalog.get(dataset)
    evaluated(dataset, [perfect(r, masks=False) for r in records]).write(tmp_path / "b.html", METRICS, {})
    titles = Parsed((tmp_path / "b.html").read_text()).titles
    assert "Boxes: AP by class and size" in titles and "Masks: AP by class and size" not in titles
    nothing = [{"instances": perfect(r)["instances"][:0]} for r in records]
    assert evaluated(dataset, nothing).write(tmp_path / "n.html", METRICS, {})
    assert "found nothing in any image" in (tmp_path / "n.html").read_text()


@pytest.fixture
def semantic_set(tmp_path):
    """Three pictures whose left half is sky and whose right half is sea; one column is ignored."""
    labels = np.zeros((20, 30), np.uint8)
    labels[:, 15:], labels[:, 0] = 1, 255
    Image.fromarray(labels).save(tmp_path / "labels.png")
    records = []
    for number in range(3):
        Image.fromarray(np.full((20, 30, 3), 80 * number, np.uint8)).save(tmp_path / f"{number}.png")
        place = {
            "file_name": str(tmp_path / f"{number}.png"),
            "sem_seg_file_name": str(tmp_path / "labels.png"),
        }
        records.append({**place, "image_id": number, "height": 20, "width": 30})
    name = f"report_semantic_{tmp_path.name}"
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(stuff_classes=["sky", "sea"], ignore_label=255, evaluator_type="sem_seg")
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def sea_from(column):
    scores = torch.zeros(2, 20, 30)
    scores[0] = 0.5
    scores[1, :, column:] = 1
    return {"sem_seg": scores}


def test_semantic(semantic_set, tmp_path):
    evaluator = evaluated(semantic_set, [sea_from(15), sea_from(30), sea_from(20)], images=1)
    assert evaluator.write(tmp_path / "r.html", {"sem_seg": {"mIoU": 61.5}}, {})
    page = (tmp_path / "r.html").read_text()
    found = Parsed(page)
    assert found.titles == [
        "Metrics",
        "Classes of pixels",
        "Confusion of pixels",
        "Worst images",
        "Best images",
    ]
    assert {"sky", "sea", "61.5", f"{100 * 14 / 29:.1f}"} <= set(found.cells)
    assert "1.png: mIoU 24.1" in page and "0.png: mIoU 100.0" in page


def test_what_goes_wrong_costs_nothing(dataset, tmp_path, caplog):
    evaluator = evaluated(dataset, [{"instances": "broken"}] * 4)
    assert "evaluation continues" in caplog.text
    assert evaluator.write(tmp_path / "r.html", METRICS, {})
    assert Parsed((tmp_path / "r.html").read_text()).titles == ["Metrics", "Incomplete"]
    assert not evaluator.write(tmp_path / "r.html" / "below-a-file.html", METRICS, {})
    assert "could not be made" in caplog.text


def test_of_an_evaluation(tmp_path):
    """train.report=True of a whole run."""
    from detectron2.config import instantiate

    from itpn_d2.checkpoint import atomic_save
    from itpn_d2.engine import Run, load_config

    small = [
        "model.backbone.channels=[8,16,32]",
        "model.backbone.depths=[1,1,1]",
        "model.backbone.num_heads=2",
    ]
    scenes = [
        f"dataset.{s}.{k}" for s in ("train", "val") for k in ("num_images=2", f"root={tmp_path}", "size=64")
    ]
    options = [
        f"train.output_dir={tmp_path / 'out'}",
        "train.report=True",
        "train.device=cpu",
        "train.visualize.images=0",
    ]
    cfg = load_config("configs/Quickstart/mask_rcnn_fast_itpn_nano.py", [*small, *scenes, *options])
    cfg.dataset.num_classes = 5
    torch.manual_seed(0)
    atomic_save({"model": instantiate(cfg.model).state_dict()}, tmp_path / "w.pth")
    cfg.train.init_checkpoint = str(tmp_path / "w.pth")
    cfg.dataset.num_classes = None
    results = Run(cfg).evaluate()
    assert "bbox" in results
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Confusion" in Parsed(page).titles and str(tmp_path / "w.pth") in page
    assert LazyConfig.load(str(tmp_path / "out" / "config.yaml")).train.report is True
