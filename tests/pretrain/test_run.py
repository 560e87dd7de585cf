"""python -m pretrain: what it writes, exact resume after a stop and after a kill, growing images, bad
images."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate

from itpn_d2.checkpoint import load_pretrained, load_state_file
from itpn_d2.data.scenes import draw_scene
from itpn_d2.engine import load_config
from itpn_d2.errors import ConfigError
from pretrain.run import PretrainRun

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs" / "Pretrain" / "{}_fast_itpn_nano.py")
TINY = [
    "model.backbone.channels=[8,16,32]",
    "model.backbone.depths=[1,1,2]",
    "model.backbone.num_heads=2",
    "model.backbone.fpn_dim=16",
    "model.backbone.pos_grid=[4,4]",
    "model.decoder_dim=32",
    "model.decoder_heads=2",
    "dataloader.train.view.size=64",
    "dataloader.train.total_batch_size=4",
    "train.epochs=2",
    "train.log_period=1",
    "train.amp.dtype=fp32",
    "train.device=cpu",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import cv2

    root = tmp_path_factory.mktemp("images")
    for number in range(12):
        cv2.imwrite(str(root / f"{number:02d}.png"), draw_scene([3, number], 64)[0])
    return root


def config(folder, output, *more, method="pixel_mim"):
    tiny = TINY
    if method == "fastmim_hog":
        tiny = [t.replace("model.backbone", "model.encoder.backbone") for t in TINY]
    return load_config(
        CONFIG.format(method), [*tiny, f"dataset.train.root={folder}", f"train.output_dir={output}", *more]
    )


def iterations(output):
    rows = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    return [r["iteration"] for r in rows if "total_loss" in r]


def recorded(run, losses):
    """Appends the loss of every step to a list; metrics.json has medians over a window."""
    forward = run.method.forward

    def step(batch):
        parts = forward(batch)
        losses.append(float(sum(parts.values()).detach()))
        return parts

    run.method.forward = step
    return run


def same_weights(a, b):
    a, b = (load_state_file(path / "model_final.pth") for path in (a, b))
    pairs = [(a["model"], b["model"])]
    if "average" in a["trainer"]:
        pairs.append((a["trainer"]["average"], b["trainer"]["average"]))
    return all(torch.equal(x[k], y[k]) for x, y in pairs for k in x)


@pytest.mark.parametrize("method", ["pixel_mim", "mfm", "fastmim_hog"])
def test_a_run_and_what_it_leaves(method, folder, tmp_path):
    run = PretrainRun(config(folder, tmp_path, method=method))
    results = run.train()
    assert run.clock.max_iter == 6 and iterations(tmp_path) == list(range(6))
    assert results["epoch"] == 2 and json.loads((tmp_path / "results.json").read_text())["total_loss"] > 0
    for name in ("config.yaml", "log.txt", "curves.png", "predictions.png", "model_final.pth"):
        assert (tmp_path / name).is_file()
    origin = load_state_file(tmp_path / "model_final.pth")["pretraining"]
    assert origin["epochs_done"] == 2 and origin["data"]["images"] == 12
    assert origin["pixel_mean"] == pytest.approx([123.675, 116.28, 103.53])
    assert "total_batch_size: 4" in origin["config"]


def test_a_detector_takes_trunk_and_pyramid_whole(folder, tmp_path, caplog):
    PretrainRun(config(folder, tmp_path, "train.epochs=1")).train()
    cfg = load_config(str(ROOT / "configs/Custom/mask_rcnn_fast_itpn_nano.py"), ["dataset.num_classes=2"])
    cfg.model.backbone.update(channels=(8, 16, 32), depths=(1, 1, 2), num_heads=2, fpn_dim=16)
    cfg.model.pixel_mean = [120.0, 116.28, 103.53]
    detector = instantiate(cfg.model)
    with caplog.at_level("WARNING"):
        report = load_pretrained(detector, tmp_path / "model_final.pth")
    assert not [k for k in report.missing if k.startswith("backbone.")] and not report.unexpected
    assert (
        report.ignored
        and "pixel_mean [123.675, 116.28, 103.53] of RGB, but the model has [120.0" in caplog.text
    )
    assert "pixel_std" not in caplog.text


@pytest.mark.parametrize("method", ["pixel_mim", "mfm"])
def test_resume_is_exact(method, folder, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    more = ("train.ema.enabled=True", "train.checkpointer.epochs=0.67", "model.backbone.drop_path=0.2")
    undisturbed, first, second = [], [], []
    recorded(PretrainRun(config(folder, whole, *more, method=method)), undisturbed).train()
    run = recorded(PretrainRun(config(folder, parts, *more, method=method)), first)
    stop_after(run, 3)
    run.train()
    resumed = recorded(PretrainRun(config(folder, parts, *more, method=method)), second)
    resumed.train(resume=True)
    assert len(first) == 3 and first + second == undisturbed
    assert same_weights(whole, parts)
    assert resumed.train(resume=True) == {}  # nothing left to do


def stop_after(run, iterations):
    """As a signal would: save and leave the loop."""
    original = run._batches

    def batches(start):
        for number, batch in enumerate(original(start)):
            if number == iterations - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    run._batches = batches


@pytest.mark.slow
def test_kill_in_the_middle_of_an_epoch(folder, tmp_path):
    """SIGKILL gives no time for anything: the run goes on from its last checkpoint and its losses are those
    of an undisturbed one."""
    more = ["train.epochs=20", "train.checkpointer.epochs=2"]
    PretrainRun(config(folder, tmp_path / "whole", *more)).train()
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "pretrain", "--config-file", CONFIG.format("pixel_mim")]
    options = [*TINY, *more, f"dataset.train.root={folder}", f"train.output_dir={killed}"]
    process = subprocess.Popen(
        [*command, *options], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(list(killed.glob("model_0*.pth"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (killed / "model_final.pth").exists() and (killed / "last_checkpoint").exists()
    subprocess.run([*command, "--resume", *options], cwd=ROOT, check=True, capture_output=True)
    assert same_weights(killed, tmp_path / "whole")


def test_growing_images(folder, tmp_path):
    stages = "train.progressive=[{epoch:0,size:32,batch:4},{epoch:1,size:64,batch:2}]"
    run = PretrainRun(config(folder, tmp_path, stages, method="fastmim_hog"))
    sizes = []
    forward = run.method.forward
    run.method.forward = lambda batch: (sizes.append(tuple(batch["image"].shape)), forward(batch))[1]
    run.train()
    assert sizes == [(4, 3, 32, 32)] * 3 + [(2, 3, 64, 64)] * 6
    with pytest.raises(ConfigError, match="size 40 is not a positive multiple of 16"):
        PretrainRun(config(folder, tmp_path, "train.progressive=[{epoch:0,size:40}]"))


def test_growing_images_of_a_swin_resume_exactly(folder, tmp_path):
    swin = load_config(
        str(ROOT / "configs/Pretrain/fastmim_hog_swin_base.py"),
        [
            "model.encoder.img_size=64",
            "model.encoder.embed_dim=8",
            "model.encoder.depths=[1,1,1,1]",
            "model.encoder.num_heads=[1,2,4,8]",
            "model.encoder.window_size=2",
            "model.decoder_dim=32",
            "model.decoder_heads=2",
            "dataloader.train.total_batch_size=4",
            "dataloader.train.num_workers=0",
            "train.progressive=[{epoch:0,size:64},{epoch:1,size:128}]",
            f"dataset.train.root={folder}",
            *TINY[-4:],
            "train.checkpointer.epochs=1.34",
            "train.ema.enabled=True",
        ],
    )
    for name, stop in (("whole", None), ("parts", 5)):
        swin.train.output_dir = str(tmp_path / name)
        run = PretrainRun(swin.copy())
        if stop:
            stop_after(run, stop)
        run.train()
    PretrainRun(swin.copy()).train(resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "parts")


def test_a_fresh_start_does_not_overwrite_another_run(folder, tmp_path):
    (tmp_path / "last_checkpoint").write_text("model_0000005.pth")
    (tmp_path / "model_0000005.pth").write_bytes(b"weights")
    with pytest.raises(ConfigError, match=r"model_0000005.pth.*--resume.*train.overwrite=True"):
        PretrainRun(config(folder, tmp_path)).train()
    PretrainRun(config(folder, tmp_path, "train.overwrite=True", "train.epochs=1")).train()
    assert (tmp_path / "earlier_1" / "model_0000005.pth").read_bytes() == b"weights"
    assert (tmp_path / "model_final.pth").is_file()


def test_broken_images_are_reported_and_survived(folder, tmp_path, caplog):
    images = tmp_path / "images"
    images.mkdir()
    for path in folder.glob("*.png"):
        (images / path.name).write_bytes(path.read_bytes())
    (images / "03.png").write_bytes(b"no image")
    PretrainRun(config(images, tmp_path / "out")).train()
    listed = (tmp_path / "out" / "broken_images.txt").read_text()
    assert listed.count("\n") == 1 and "03.png" in listed
    assert "1 images could not be read" in (tmp_path / "out" / "log.txt").read_text()


def test_neighbours_are_measured_on_the_way(folder, tmp_path):
    import cv2

    for number in range(12):
        place = tmp_path / "labelled" / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f"{number}.png"), draw_scene([5, number], 64)[0])
    where = str(tmp_path / "labelled")
    knn = ["train.knn.epochs=1", f"train.knn.train={where}", f"train.knn.test={where}"]
    run = PretrainRun(config(folder, tmp_path / "out", *knn, "train.knn.neighbours=1"))
    assert run.train()["knn/top1"] == 100  # every image is its own neighbour
    with pytest.raises(ConfigError, match="needs labelled images"):
        PretrainRun(config(folder, tmp_path / "other", knn[0])).train()


def test_learning_rate_from_the_base_rate(folder, tmp_path):
    run = PretrainRun(config(folder, tmp_path, "train.base_lr=0.064"))
    assert run.cfg.optimizer.lr == pytest.approx(0.001)


def test_accumulation_must_divide(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"total_batch_size=4 is not divisible by train.accumulate=3"):
        config(folder, tmp_path, "train.accumulate=3")
