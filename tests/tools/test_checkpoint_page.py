"""The generated part of docs/checkpoints.md: as the command writes it; each layout stands in it."""

from pathlib import Path

import pytest
import torch

import checkpoint_page
from checkpoints.examples import EXAMPLES, REFUSALS, Refusal
from checkpoints.names import fast_names, filled
from itpn_d2.checkpoint.report import STATUSES

PAGE = Path("docs/checkpoints.md")


def test_the_page_is_what_the_command_writes(tmp_path):
    (tmp_path / PAGE.name).write_text(PAGE.read_text())
    checkpoint_page.main(["--docs", str(tmp_path)])
    assert (tmp_path / PAGE.name).read_text() == PAGE.read_text()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.file)
def test_every_example_loads_whole_rows(example, tmp_path):
    lines = checkpoint_page.report(example, tmp_path).splitlines()
    assert lines[0].startswith(example.file) and lines[1].split()[0] == "holds"
    counts = {line.split()[0]: int(line.split()[1]) for line in lines if line.split()[0] in STATUSES}
    assert set(counts) == set(STATUSES) and counts["loaded"] > 10


@pytest.mark.parametrize("example", REFUSALS, ids=lambda e: e.file)
def test_errors_name_the_file(example, tmp_path):
    assert checkpoint_page.refusal(example, tmp_path).startswith(f"{example.file}: ")
    assert not Path("trap").exists()


def test_what_is_taken_is_no_refusal(tmp_path):
    good = Refusal("good", "good.pth", lambda path: torch.save(filled(fast_names()), path))
    with pytest.raises(RuntimeError, match=r"good\.pth \(good\) was taken"):
        checkpoint_page.refusal(good, tmp_path)
