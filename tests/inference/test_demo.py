"""The command: images, folders and videos in; pictures, videos and COCO results out, whatever is broken."""

import errno
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from itpn_d2.commands.demo import main
from itpn_d2.errors import ConfigError
from itpn_d2.inference.inputs import find_inputs
from itpn_d2.inference.video import VideoError, VideoReader, VideoWriter


@pytest.fixture
def command(trained, tmp_path):
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


def test_weights_of_another_config(command, trained, good, tmp_path, refused):
    fixed = [
        "--weights",
        str(trained / "model_final.pth"),
        "--output",
        str(tmp_path / "out"),
        "--device",
        "cpu",
    ]
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


def state_of(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.mark.parametrize(
    ("inputs", "output"),
    [
        (["work/pictures"], "work"),
        (["work/pictures"], "work/pictures"),
        (["work/pictures"], "."),
        (["work"], "work"),
        (["work/pictures/a.png"], "work"),
        (["work/pictures/*.png"], "work"),
        (["work/../work/pictures/a.png"], "work/pictures/.."),
        (["link/a.png"], "work"),
        (["work/videos/c.avi.mp4", "work/videos/c.avi"], "work"),
    ],
)
def test_inputs_are_not_overwritten(trained, tmp_path, monkeypatch, refused, inputs, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work" / "videos").mkdir(parents=True)
    (tmp_path / "work" / "pictures").mkdir()
    Image.new("RGB", (40, 30), "red").save("work/pictures/a.png")
    (tmp_path / "link").symlink_to("work/pictures")
    write_video(tmp_path / "work/videos/c.avi", frames=2)
    (tmp_path / "work/videos/c.avi.mp4").write_bytes((tmp_path / "work/videos/c.avi").read_bytes())
    before = state_of(tmp_path)
    fixed = ["--config-file", str(trained / "config.yaml"), "--weights", str(trained / "model_final.pth")]
    with refused("--output .*overwr.*choose"):
        main([*fixed, "--device", "cpu", "--input", *inputs, "--output", output])
    assert state_of(tmp_path) == before


def test_the_json_of_ids_is_not_overwritten(command, good, tmp_path, refused):
    command(good[0] / "plain.png", options=["--no-pictures"])
    known = tmp_path / "out" / "images.json"
    before = known.read_bytes()
    with refused("images.json would overwrite the input"):
        command(good[0] / "plain.png", options=["--ids-from", str(known)])
    assert known.read_bytes() == before


def test_results_inside_a_folder_of_inputs_are_not_inputs(tmp_path):
    for name in ("a.png", "out/pictures/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [n for _, n in find_inputs([str(tmp_path)], tmp_path / "out").images] == ["a.png"]


def test_odd_inputs(tmp_path):
    (tmp_path / "a.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    odd = [
        "",
        str(tmp_path / "pipe.png"),
        "/dev/zero",
        "a" * 5000,
        "b/" * 3000,
        "a\0b",
        str(tmp_path / "*.gif"),
    ]
    found = find_inputs([*odd, str(tmp_path)])
    assert [name for _, name in found.images] == ["a.png"] and len(found.problems) == len(odd)
    reasons = [why for _, why in found.problems]
    for words, reason in zip(
        ("empty", "pipe", "device", "too long", "too long", "null", "no such"), reasons, strict=True
    ):
        assert words in reason
    assert all(len(what) < 250 for what, _ in found.problems)


@pytest.mark.parametrize("output", ["file", "file/below", "/proc/x", "a" * 300, "a\0b"])
def test_odd_outputs(trained, good, tmp_path, monkeypatch, refused, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with refused("OutputError: .*not a folder"):
        main(["--config-file", str(trained / "config.yaml"), "--input", str(good[0]), "--output", output])


def test_names_that_are_not_utf8(command, good, tmp_path, capsys):
    folder = os.fsencode(tmp_path) + b"/in\xff"
    os.mkdir(folder)
    Path(os.fsdecode(folder + b"/\xe4.png")).write_bytes((good[0] / "plain.png").read_bytes())
    write_video(tmp_path / "v.avi", frames=3)
    os.rename(tmp_path / "v.avi", folder + b"/v\xfc.avi")
    status, out = command(os.fsdecode(folder))
    assert status == 0 and "1 images and 3 frames done" in capsys.readouterr().out
    assert os.listdir(os.fsencode(out / "pictures")) == [b"\xe4.png"]
    video = out / "videos" / os.fsdecode(b"v\xfc.avi.mp4")
    assert len(list(VideoReader(video))) == 3
    names = {i["file_name"] for i in json.loads((out / "images.json").read_text())["images"]}
    assert names == {os.fsdecode(b"\xe4.png")}


def test_every_image_is_written_when_it_is_done(command, good, tmp_path, monkeypatch):
    """What a process leaves that is killed: a line for each; at the end the files of all of them."""
    from itpn_d2.inference import job

    path, seen = tmp_path / "out" / "results.jsonl", []

    def draw(picture, *_):
        seen.append([json.loads(line) for line in path.read_text().splitlines()])
        return picture

    monkeypatch.setattr(job, "draw_prediction", draw)
    status, out = command(good[0] / "plain.png", good[0] / "one.png")
    assert status == 0 and [len(lines) for lines in seen] == [1, 2] and not path.exists()
    assert [line["image"]["file_name"] for line in seen[1]] == ["plain.png", "one.png"]
    assert [r for line in seen[1] for r in line["instances"]] == json.loads(
        (out / "instances.json").read_text()
    )


def test_a_full_disk(command, good, monkeypatch, refused):
    """One sentence that names the file."""
    from itpn_d2.inference import coco

    class Full:
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(coco, "open", lambda *_, **__: Full(), raising=False)
    with refused(r"OutputError: \S*results.jsonl: can't be written \(the disk of .* is full: make room"):
        command(good[0])
