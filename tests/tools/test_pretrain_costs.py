"""The table of mmpretrain's recipes in docs/pretraining.md: as the command writes it, and equal to theirs."""

from pathlib import Path

import pytest

import pretrain_costs
from pretrain_costs import LISTED, Counted, clip_text_parameters

PAGE = Path("docs/pretraining.md")


def rows():
    text = PAGE.read_text().split("<!-- mmpretrain: begin -->")[1].split("<!-- mmpretrain: end -->")[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.strip().splitlines()[2:]]


def test_the_written_sums_are_theirs():
    """Their parameters are whole millions, their FLOPs have four digits."""
    for listed, row in zip(LISTED, rows(), strict=True):
        assert row[0] == f"`{listed.config}`"
        assert (float(row[1]), float(row[5])) == (listed.parameters, listed.flops)
        assert round(float(row[4])) == listed.parameters and float(row[6]) == listed.flops


def test_text_tower_of_clip():
    """The whole of CLIP-B/16 has 149,620,737 parameters, its image tower 86,192,640."""
    assert clip_text_parameters() == 149_620_737 - 86_192_640
    assert Counted(1, 2, 3, 4, 0, 0).as_there == 10


@pytest.mark.slow
def test_the_page_is_what_the_command_writes(tmp_path):
    (tmp_path / PAGE.name).write_text(PAGE.read_text())
    pretrain_costs.main(["--docs", str(tmp_path)])
    assert (tmp_path / PAGE.name).read_text() == PAGE.read_text()
