"""Hours of recipes: operations against formulas, the arithmetic by hand, what was measured."""

import json
from pathlib import Path

import pytest
from detectron2.config import LazyConfig
from torch import nn

import scale_hours
from itpn_d2.errors import UseError
from scale_hours import IMAGENET, Cost, cost_of, measured_mfu, step_flops, table

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


class Linear(nn.Module):
    """16 numbers of each image to 5, as a method."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 5)

    def forward(self, batch):
        return {"loss": self.layer(batch["image"].float()[:, 0].flatten(1)).sum()}


def test_operations_of_a_step_are_those_of_an_image():
    # forward and the weight's gradient; the images have none
    assert step_flops(Linear().to("meta"), {"size": 4}) == 2 * (2 * 16 * 5)


def small(name):
    cfg = LazyConfig.load(str(CONFIGS / name))
    backbone = cfg.model.backbone
    backbone.update(name="fast_itpn_nano", drop_path=0.0)
    return cfg


def test_a_pre_training_with_a_teacher():
    cfg = small("Pretrain/distillation_fast_itpn_base.py")
    options = dict(embed_dim=192, num_heads=3, depth=4)
    cfg.model.teacher.update(name="vit_base_patch16_clip_224", image_size=224, options=options)
    cfg.dataloader.train.view.teacher_size = 224
    with_teacher = cost_of(cfg)
    assert with_teacher.images == IMAGENET * 1600
    cfg.model.teacher.options.depth = 2
    two_blocks = 2 * (2 * 197 * 192 * 192 * 12 + 4 * 197**2 * 192)
    assert with_teacher.flops - cost_of(cfg).flops == two_blocks
    assert with_teacher.parameters < 10e6  # the teacher is not trained


def test_a_detector(monkeypatch):
    cfg = small("COCO-Detection/dino_fast_itpn_base_1x.py")
    cfg.model.encoder.num_layers = cfg.model.decoder.num_layers = 1
    monkeypatch.setattr(scale_hours, "DETECTOR_SIZE", (64, 96))
    found = cost_of(cfg)
    assert found.images == cfg.train.max_iter * cfg.dataloader.train.total_batch_size
    monkeypatch.setattr(scale_hours, "DETECTOR_SIZE", (128, 192))
    # four times the cells, as many queries
    assert 2.5 < cost_of(cfg).flops / found.flops < 5


def test_the_arithmetic():
    cost = Cost(flops=10**12, images=3600, parameters=10**6)
    assert cost.hours(1, 1.0) == 1 and cost.hours(8, 0.5) == 0.25
    text = table({"pixel_large": cost}, [1, 4], "H100", 0.5, {})
    # 989 * 0.5 TFLOP/s
    assert "| 1 | 1000 | 3.60e+03 | 50% (assumed) | 494 | 0.002 | 0.00051 |" in text
    assert "| 40% | 396 |" in table({"pixel_large": cost}, [1], "H100", 0.5, {"pixel_large": 0.4})
    with pytest.raises(UseError, match="flops.py"):
        table({"pixel_large": cost}, [1], "Abacus", 0.5, {})


def test_measured_shares(tmp_path):
    assert measured_mfu(tmp_path, "H100") == {}
    (tmp_path / "measured").mkdir()
    results = {"pixel_large": {"mfu": 0.3}, "dino_base": {"reason": "no"}}
    content = {"machine": "NVIDIA H100 80GB HBM3, 8 threads", "results": results}
    (tmp_path / "measured" / "gpu_runs.json").write_text(json.dumps(content))
    assert measured_mfu(tmp_path, "H100") == {"pixel_large": 0.3}
    assert measured_mfu(tmp_path, "A100") == {}


def test_command_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "scale.md").write_text("# Scale\n")
    monkeypatch.setattr(scale_hours, "cost_of", lambda cfg: Cost(10**12, 3600, 10**6))
    scale_hours.main(["--docs", str(tmp_path), "--recipes", "dino_base", "--gpus", "2"])
    page = (tmp_path / "scale.md").read_text()
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| DINO"))
    assert row in page and "<!-- hours: begin -->" in page
