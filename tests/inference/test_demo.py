"""The command: images, folders and videos in; pictures, videos and COCO results out, whatever is broken."""

import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from itpn_d2.errors import ConfigError
from itpn_d2.inference.inputs import find_inputs
from itpn_d2.inference.video import VideoError, VideoReader, VideoWriter

DEMO = Path(__file__).resolve().parents[2] / "demo" / "demo.py"


@pytest.fixture(scope="module")
def main():
    spec = importlib.util.spec_from_file_location("demo_script", DEMO)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def command(main, trained, tmp_path):
    """Runs the demo on inputs; the exit status and the output folder."""

    def run(*inputs, options=(), weights="model_final.pth"):
        fixed = ["--config-file", str(trained / "config.yaml"), "--weights", str(trained / weights)]
        fixed += ["--device", "cpu", "--output", str(tmp_path / "out")]
        return main([*fixed, *options, "--input", *map(str, inputs)]), tmp_path / "out"

    return run


def write_video(path, frames=9, size=(48, 64), fourcc="MJPG", fps=10):
    """Frames that grow brighter."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*fourcc), fps, size[::-1])
    assert writer.isOpened()
    for number in range(frames):
        noise = np.random.default_rng(number).integers(0, 20, (*size, 3), dtype=np.uint8)
        writer.write(noise + np.uint8(20 * number))
    writer.release()
    return path


def test_a_folder_with_everything_in_it(command, good, bad, capsys):
    status, out = command(good[0], bad[0], "nowhere.png", options=["--threshold", "0.0"])
    assert status == 1
    summary = json.loads((out / "summary.json").read_text())
    assert summary["images"] == len(good[1])
    failed = dict(summary["failed"])
    assert failed.keys() == {*bad[1], "nowhere.png"}
    assert all(word in failed[name] for name, word in bad[1].items())
    said = capsys.readouterr().out
    assert f"{len(good[1])} images done, {len(failed)} files failed" in said and "failed: cut.png" in said
    listed = json.loads((out / "images.json").read_text())
    assert {i["file_name"]: (i["height"], i["width"]) for i in listed["images"]} == good[1]
    assert [c["name"] for c in listed["categories"]] == ["disc", "square", "triangle", "star", "ring"]
    results = json.loads((out / "instances.json").read_text())
    assert {r["image_id"] for r in results} == {i["id"] for i in listed["images"]}
    assert {p.name for p in (out / "pictures").iterdir()} == set(good[1])
    for name, (height, width) in good[1].items():
        with Image.open(out / "pictures" / name) as image:
            assert max(image.size) == max(480, height, width)


def test_all_well(command, good):
    status, out = command(
        good[0] / "plain.png", good[0] / "*.jpg", options=["--no-pictures", "--batch-size", "4"]
    )
    assert status == 0 and not (out / "pictures").exists()
    assert len(json.loads((out / "images.json").read_text())["images"]) == 2


def test_a_video(command, tmp_path):
    status, out = command(write_video(tmp_path / "clip.avi"), options=["--batch-size", "4"])
    assert status == 0
    reader = VideoReader(out / "videos" / "clip.avi.mp4")
    frames = list(reader)
    assert len(frames) == 9 and frames[0].shape == (48, 64, 3) and reader.fps == pytest.approx(10)
    assert [round(f.mean() / 20) for f in frames] == sorted(round(f.mean() / 20) for f in frames)
    listed = json.loads((out / "videos" / "clip.avi" / "images.json").read_text())["images"]
    assert [i["file_name"] for i in listed][:2] == ["clip.avi#000000", "clip.avi#000001"] and len(listed) == 9


def test_a_video_that_ends_in_mid_frame(command, tmp_path, capsys):
    """What could be read is done, and said; a video without an end that can be opened at all is an error."""
    whole = write_video(tmp_path / "whole.avi", frames=12, size=(96, 128)).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) * 6 // 10])
    written = write_video(tmp_path / "whole.mp4", fourcc="mp4v").read_bytes()
    (tmp_path / "headless.mp4").write_bytes(written[: len(written) // 2])
    (tmp_path / "empty.mp4").touch()
    files = [tmp_path / name for name in ("cut.avi", "headless.mp4", "empty.mp4", "whole.mp4")]
    status, out = command(*files)
    summary = json.loads((out / "summary.json").read_text())
    assert status == 1 and [name for name, _ in summary["failed"]] == ["headless.mp4", "empty.mp4"]
    ((name, note),) = summary["notes"]
    assert name == "cut.avi" and "ends early" in note and "of 12 frames" in note
    kept = len(list(VideoReader(out / "videos" / "cut.avi.mp4")))
    assert 5 <= kept <= 8 and f"{kept} of 12" in note and summary["frames"] == kept + 9
    assert "note:   cut.avi: the video ends early" in capsys.readouterr().out


def test_weights_of_another_config(command, main, trained, good, tmp_path, refused):
    fixed = ["--weights", str(trained / "model_final.pth"), "--output", str(tmp_path), "--device", "cpu"]
    with refused("CheckpointError.*another size"):
        main(
            [
                "--config-file",
                "COCO-InstanceSegmentation/mask_rcnn_fast_itpn_tiny_1x",
                *fixed,
                "--input",
                str(good[0]),
            ]
        )
    with refused("CheckpointError.*no such file"):
        command(good[0], weights="other.pth")
    with refused("nothing to do.*no such file"):
        command(tmp_path / "nothing.jpg")


def test_overrides(command, good):
    # --opts takes the rest of the line
    status, out = command(
        good[0] / "one.png", "--opts", "model.roi_heads.box_predictor.test_topk_per_image=2"
    )
    assert status == 0 and len(json.loads((out / "instances.json").read_text())) == 2


def test_stopped_by_hand(command, good, monkeypatch):
    """Ctrl-C in the midst of it costs nothing that is done."""
    from itpn_d2.inference import job

    calls = []

    def draw(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return arguments[0]

    monkeypatch.setattr(job, "draw_prediction", draw)
    status, out = command(good[0])
    assert status == 130 and len(json.loads((out / "images.json").read_text())["images"]) == 3
    assert json.loads((out / "summary.json").read_text())["interrupted"]


def test_a_picture_that_cannot_be_drawn(command, good, monkeypatch):
    from itpn_d2.inference import job

    def draw(*_):
        raise ValueError("no ink")

    monkeypatch.setattr(job, "draw_prediction", draw)
    status, out = command(good[0] / "plain.png")
    assert status == 0 and json.loads((out / "summary.json").read_text())["notes"] == [
        ["plain.png", "not drawn: no ink"]
    ]
    assert json.loads((out / "instances.json").read_text())


def test_names_of_inputs(tmp_path):
    for name in ("a/x.jpg", "a/deep/y.PNG", "a/notes.txt", "b/x.jpg", "b/c.mp4", "empty/z.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    given = [tmp_path / n for n in ("a", "b", "empty", "a/notes.txt")]
    found = find_inputs(map(str, given))
    assert [name for _, name in found.images] == ["deep/y.PNG", "x.jpg", "x_2.jpg", "notes.txt"]
    assert [name for _, name in found.videos] == ["c.mp4"]
    assert [what for what, _ in found.problems] == [str(tmp_path / "empty")]
    with pytest.raises(ConfigError, match="nothing to do"):
        find_inputs([str(tmp_path / "empty")])


def test_a_video_is_whole_or_absent(tmp_path):
    writer = VideoWriter(tmp_path / "v.mp4", 5)
    writer.write(np.full((21, 31, 3), 200, np.uint8))
    assert not (tmp_path / "v.mp4").exists()
    writer.close()
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]
    (frame,) = VideoReader(tmp_path / "v.mp4")
    assert frame.shape == (22, 32, 3) and frame[:16, :24].mean() > 190  # sides are even
    VideoWriter(tmp_path / "never.mp4", 5).close()
    assert not (tmp_path / "never.mp4").exists()
    with pytest.raises(VideoError, match="no such file"):
        VideoReader(tmp_path / "never.mp4")
