"""The campaign itself: it finds faults that are there, and the short form finds none in what is here."""

import random
import signal
import time
from collections import Counter

import pytest

import campaign
from itpn_d2.errors import DatasetError
from itpn_d2.files import write_json
from reliability import forks, hostile, report
from reliability.feeding import feed
from reliability.inputs import Case, Inputs
from reliability.mutations import damaged, mutated, places


def fail():
    raise KeyError("a fault")


def refuse():
    raise DatasetError("set.json: no images; give some")


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: None, forks.ACCEPTED),
        (refuse, forks.NAMED),
        (fail, forks.RAW),
        (lambda: signal.raise_signal(signal.SIGKILL), forks.CRASH),
        (lambda: time.sleep(60), forks.HANG),
    ],
)
def test_how_a_call_ended(call, kind, tmp_path):
    assert forks.outcome(call, tmp_path / "log.txt", 5 if kind != forks.HANG else 0.3).kind == kind


def test_an_error_of_use_shows_no_traceback(tmp_path):
    text = forks.outcome(refuse, tmp_path / "log.txt", 5).text
    assert text == "DatasetError: set.json: no images; give some\n"


def test_the_same_seed_changes_the_same():
    tree = {"images": [{"id": 1, "file_name": "a"}], "annotations": [{"bbox": [1, 2, 3, 4]}]}
    assert len(list(places(tree))) == 11
    one, other = ([mutated(tree, random.Random(s))[1] for s in range(30)] for _ in range(2))
    assert one == other and len(set(one)) > 15
    assert tree == {"images": [{"id": 1, "file_name": "a"}], "annotations": [{"bbox": [1, 2, 3, 4]}]}
    data = bytes(range(256))
    assert sum(damaged(data, random.Random(s))[0] != data for s in range(30)) == 30


def test_code_that_is_executed_is_noticed(tmp_path, monkeypatch):
    """A reader that runs what a pickle says is found out."""
    import pickle

    def cases(self):
        data = pickle.dumps(hostile.Touch(self.marker))
        yield Case("pickle", "touch", lambda: pickle.loads(data))

    monkeypatch.setattr(Inputs, "__iter__", cases)
    counts = feed(tmp_path / "inputs", 0, 1, time.monotonic() + 60, said=lambda text: None)
    assert counts["pickle"] == Counter(accepted=1, code=1)
    assert report.faults({"inputs": counts}) == 1


def test_faults_are_counted_and_shown():
    killed = Counter({"kills": 5, "chains": 2, "different": 1, "left over": 3})
    found = {"seed": 1, "torch": "2", "kills": killed, "signals": Counter(signals=24, saved=23)}
    assert report.faults(found) == 5
    text = report.markdown(found)
    assert "23 of 24" in text and "| 5 | 0 | 2 | 0 | 0 | 1 | 3 |" in text


def test_unknown_parts_are_refused(capsys):
    with pytest.raises(SystemExit):
        campaign.parse(["kill"])
    assert "choose from kills, signals, inputs" in capsys.readouterr().err


def test_the_short_campaign_finds_nothing(tmp_path, capsys):
    status = campaign.main(["kills", "inputs", "--short", "--json", str(tmp_path / "found.json")])
    assert status == 0, capsys.readouterr().out
    assert (tmp_path / "found.json").is_file()


def test_campaigns_are_added_up(tmp_path, capsys):
    first = {"seed": 1, "torch": "2", "kills": {"kills": 3, "left over": 1}, "inputs": {"a": {"named": 2}}}
    second = {"seed": 2, "torch": "2", "inputs": {"a": {"named": 1, "hang": 1}, "b": {"accepted": 4}}}
    files = [str(tmp_path / name) for name in ("one.json", "two.json")]
    for file, content in zip(files, (first, second), strict=True):
        write_json(file, content)
    assert campaign.main(["--join", *files]) == 1  # there are faults
    text = capsys.readouterr().out
    assert "Seed 1, 2, torch 2." in text and "| 3 | 0 | 0 | 0 | 0 | 0 | 1 |" in text
    assert "| a | 4 | 0 | 3 | 0 | 0 | 1 | 0 |" in text and "| all | 8 | 4 | 3 | 0 | 0 | 1 | 0 |" in text
    write_json(files[0], {"seed": 1})
    with pytest.raises(SystemExit, match="not written by --json"):
        campaign.main(["--join", files[0]])
