"""Run on classifiers: resume, everything switched on, evaluation, own folders, timm."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from itpn_d2.checkpoint import load_state_file
from itpn_d2.data import DatasetError
from itpn_d2.engine import Run, load_config
from itpn_d2.engine.trainer import Trainer

CONFIG = "configs/Custom/classifier_fast_itpn_nano.py"
PROBE = "configs/Custom/linear_probe_fast_itpn_nano.py"
SMALL = [
    "model.network.channels=[16,32,64]",
    "model.network.depths=[1,1,2]",
    "model.network.num_heads=2",
    "model.network.pos_grid=[2,2]",
    "dataloader.image.size=32",
    "dataloader.train.total_batch_size=4",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
    "dataloader.test.batch_size=3",
    "train.log_period=1",
    "train.eval_period=0",
    "train.visualize.period=0",
    "train.amp.dtype=fp32",
]
COLOURS = {"green": (30, 190, 20), "red": (210, 20, 30), "t-shirt": (20, 30, 200)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for name, colour in COLOURS.items():
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                noisy = np.clip(np.array(colour) + rng.normal(0, 30, (40, 36, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(noisy).save(root / split / name / f"{i}.png")
    return root


def small(folders, output, *overrides, config=CONFIG):
    data = [f"dataset.{s}.images={folders / s}" for s in ("train", "val")]
    return load_config(config, [*SMALL, *data, f"train.output_dir={output}", *overrides])


def weights(folder):
    state = load_state_file(folder / "model_final.pth")
    return {**state["model"], **{f"average.{k}": v for k, v in state["trainer"]["average"].items()}}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stopped_run_resumes_bit_for_bit(folders, tmp_path, monkeypatch, workers):
    extra = [
        "train.max_iter=5",
        f"dataloader.train.num_workers={workers}",
        "model.network.drop_path=0.2",
        "model.augmentation.erasing=0.5",
        "train.eval_period=2",
        "train.validation_loss=True",
    ]
    Run(small(folders, tmp_path / "whole", *extra)).train()

    step = Trainer.run_step

    def stopped_step(trainer):
        if trainer.iter == 2:
            signal.raise_signal(signal.SIGTERM)
        step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_step", stopped_step)
        Run(small(folders, tmp_path / "parts", *extra)).train()
    assert (tmp_path / "parts" / "model_0000002.pth").is_file()
    torch.manual_seed(12345)
    Run(small(folders, tmp_path / "parts", *extra)).train(resume=True)

    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert [k for k in whole if not torch.equal(whole[k], parts[k])] == []


def test_everything_switched_on_and_evaluated_again(folders, tmp_path):
    folder = tmp_path / "out"
    cfg = small(
        folders,
        folder,
        "train.max_iter=3",
        "train.eval_period=2",
        "train.visualize.period=3",
        "train.visualize.images=4",
        "train.accumulate=2",
        "train.amp.dtype=bf16",
        "train.validation_loss=True",
        "train.show_groups=True",
        "optimizer.params.layer_decay=0.8",
        "optimizer.params.count_merges=True",
        "dataloader.evaluator.per_class=True",
        "train.best_metric=classification/top1",
    )
    Run(cfg).train()
    names = {p.name for p in folder.iterdir()}
    wanted = {"config.yaml", "metrics.json", "results.json", "log.txt", "curves.png", "predictions.png"}
    assert wanted | {"model_final.pth", "model_best.pth"} <= names
    assert np.asarray(Image.open(folder / "predictions.png")).std() > 5
    assert (folder / "inference" / "ema" / "predictions.csv").is_file()
    results = json.loads((folder / "results.json").read_text())
    assert {"classification/top1", "classification/top1-t-shirt", "ema/classification/loss"} <= results.keys()
    assert "classification/top5" not in results  # of three classes
    last = json.loads((folder / "metrics.json").read_text().splitlines()[-1])
    assert {"total_loss", "val_loss", "lr", "classification/top1", "grad_norm"} <= last.keys()
    assert last["val_loss"] == pytest.approx(last["classification/loss"], rel=2e-2)  # bf16

    checkpoint = f"train.init_checkpoint={folder / 'model_final.pth'}"
    again = small(folders, tmp_path / "eval", checkpoint, "train.amp.dtype=bf16")
    Run(again).evaluate()
    evaluated = json.loads((tmp_path / "eval" / "results.json").read_text())
    for name, value in evaluated.items():
        assert value == pytest.approx(results[name], abs=1e-6), name
    assert (tmp_path / "eval" / "predictions.png").is_file()


def test_learns_three_colours(folders, tmp_path):
    cfg = small(
        folders,
        tmp_path,
        "train.max_iter=40",
        "train.eval_period=40",
        "train.ema.enabled=False",
        "train.best_metric=classification/top1",
        "optimizer.lr=3e-3",
        "dataloader.train.mapper.view.auto_augment=null",
        "dataloader.train.mapper.view.color_jitter=0.0",
    )
    results = Run(cfg).train()
    assert results["classification"]["top1"] == 100.0


def test_linear_probe_of_a_checkpoint(folders, tmp_path):
    Run(small(folders, tmp_path / "first", "train.max_iter=2")).train()
    start = load_state_file(tmp_path / "first" / "model_final.pth")["model"]
    probe = small(
        folders,
        tmp_path / "probe",
        f"train.init_checkpoint={tmp_path / 'first' / 'model_final.pth'}",
        "train.max_iter=4",
        config=PROBE,
    )
    run = Run(probe)
    run.train()
    end = run.model.state_dict()
    trunk = [k for k in end if k.startswith("network.trunk.") and not k.startswith("network.trunk.norm")]
    assert trunk and all(torch.equal(end[k], start[k]) for k in trunk)
    assert not torch.equal(end["network.head.weight"], start["network.head.weight"])


def test_broken_images_end_nothing(folders, tmp_path, caplog):
    data = tmp_path / "images"
    for split in ("train", "val"):
        for name in COLOURS:
            (data / split / name).mkdir(parents=True)
            for file in (folders / split / name).iterdir():
                (data / split / name / file.name).write_bytes(file.read_bytes())
        (data / split / "red" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DatasetError, match=r"red/0\.png.*\n.*--skip-bad-records"):
        Run(small(data, tmp_path / "strict"))
    # found on the way
    loose = [f"dataset.{split}.verify_images=none" for split in ("train", "val")]
    cfg = small(data, tmp_path / "loose", *loose, "train.max_iter=4", "train.eval_period=4")
    results = Run(cfg).train()
    assert results["classification"]["images_not_read"] == 1
    assert f"{data / 'train' / 'red' / '0.png'}: left out" in (tmp_path / "loose" / "log.txt").read_text()
    # left out from the start
    skip = [f"dataset.{split}.skip_bad_records=True" for split in ("train", "val")]
    cfg = small(data, tmp_path / "skip", *skip, "train.max_iter=2", "train.eval_period=2")
    assert Run(cfg).train()["classification"]["images_not_read"] == 0


def test_a_network_of_timm(folders, tmp_path):
    import timm

    cfg = small(
        folders, tmp_path, "train.max_iter=2", "train.eval_period=2", "optimizer.params.layer_decay=0.7"
    )
    cfg.model.network = {"_target_": timm.create_model, "model_name": "test_vit", "img_size": 32}
    cfg.model.network.num_classes = "${dataset.num_classes}"
    results = Run(cfg).train()
    assert 0 <= results["ema"]["classification"]["top1"] <= 100


@pytest.mark.slow
def test_two_processes_evaluate_as_one(folders, tmp_path):
    """By the command, with all that training mixes; of five images one process has three."""
    listed = [f"{name}/{i}.png,{name}" for i in range(2) for name in COLOURS][:5]
    (tmp_path / "val.txt").write_text("\n".join(listed))
    data = [
        f"dataset.train.images={folders / 'train'}",
        f"dataset.val.images={tmp_path / 'val.txt'}",
        f"dataset.val.root={folders / 'val'}",
    ]
    settings = [
        *SMALL,
        *data,
        "dataloader.train.total_batch_size=8",
        "train.accumulate=2",
        "train.max_iter=4",
        "train.eval_period=4",
        "train.validation_loss=True",
        "train.best_metric=ema/classification/top1",
        "optimizer.params.layer_decay=0.8",
        "model.network.drop_path=0.2",
        "model.augmentation.erasing=0.5",
    ]
    command = [sys.executable, "train_net.py", "--config-file", CONFIG, "--num-processes", "2"]
    two = tmp_path / "two"
    done = subprocess.run([*command, *settings, f"train.output_dir={two}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 process(es)" in (two / "log.txt").read_text()
    together = json.loads((two / "results.json").read_text())
    last = json.loads((two / "metrics.json").read_text().splitlines()[-1])
    assert last["val_loss"] == pytest.approx(together["classification/loss"], rel=1e-5)

    checkpoint = f"train.init_checkpoint={two / 'model_final.pth'}"
    Run(load_config(CONFIG, [*settings, checkpoint, f"train.output_dir={tmp_path / 'one'}"])).evaluate()
    alone = json.loads((tmp_path / "one" / "results.json").read_text())
    assert alone["classification/images_not_read"] == 0
    for name, value in alone.items():
        assert together[name] == pytest.approx(value, abs=1e-5), name
    predictions = [
        [line.split(",")[:3] for line in (tmp_path / way / "inference/model/predictions.csv").open()]
        for way in ("one", "two")
    ]
    assert predictions[0] == predictions[1] and len(predictions[0]) == 6


def test_other_classes_in_validation(folders, tmp_path):
    (tmp_path / "val" / "hat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "val" / "hat" / "0.png")
    with pytest.raises(DatasetError, match="class hat has no training image"):
        Run(small(folders, tmp_path / "out", f"dataset.val.images={tmp_path / 'val'}"))
