"""The list of images that could not be read: each once, of all processes, in a file that is whole."""

import logging

from detectron2.utils import comm

from itpn_d2.data import BrokenImages


def test_each_image_once_with_its_first_reason(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    broken = BrokenImages()
    broken.report(tmp_path)
    assert not list(tmp_path.iterdir()) and not caplog.text
    broken.add([(f"{i:02}.png", "truncated") for i in range(12)])
    broken.add([("03.png", "again")])
    broken.report(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["broken_images.txt"]
    lines = (tmp_path / "broken_images.txt").read_text().splitlines()
    assert lines == [f"{i:02}.png\ttruncated" for i in range(12)] and len(broken) == 12
    assert "12 images could not be read" in caplog.text and "and 2 more" in caplog.text


def test_what_other_processes_met_is_joined(tmp_path, monkeypatch):
    broken = BrokenImages()
    broken.add([("1.png", "mine")])
    monkeypatch.setattr(comm, "gather", lambda data: [data, {"1.png": "theirs", "2.png": "theirs"}])
    broken.report(tmp_path)
    assert broken.reasons == {"1.png": "mine", "2.png": "theirs"}


def test_a_strange_name_does_not_spoil_the_report(tmp_path):
    broken = BrokenImages()
    broken.add([(b"x\xff\ny.png".decode("utf-8", "surrogateescape"), "no image")])
    broken.report(tmp_path)
    text = (tmp_path / "broken_images.txt").read_text()
    assert text.count("\n") == 1 and "\\udcff" in text and "\\udcff" in broken.summary()


def test_a_resumed_run_keeps_what_it_had_found(tmp_path):
    for name, reason in (("2.png", "first"), ("1.png", "other")):
        broken = BrokenImages()
        broken.add([(name, reason), ("3.png", reason)])
        broken.report(tmp_path, resumed=True)
    lines = (tmp_path / "broken_images.txt").read_text().splitlines()
    assert lines == ["1.png\tother", "2.png\tfirst", "3.png\tfirst"]
    broken.report(tmp_path)
    assert len((tmp_path / "broken_images.txt").read_text().splitlines()) == 2
