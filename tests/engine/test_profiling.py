"""``train.profile``: a trace and a table of the iterations that were asked for."""

import json

import pytest

from itpn_d2.engine.profiling import Profile
from tests.engine.test_trainer import batches, build


@pytest.mark.parametrize(("first", "stop", "seen"), [(0, 6, 2), (3, 6, 1), (0, 2, 0)])
def test_some_iterations(tmp_path, first, stop, seen):
    """Counted from where the run goes on; as many as it comes to."""
    trainer, _, _ = build(tmp_path, 6)
    trainer.register_hooks([Profile(tmp_path, start=2, steps=2)])
    trainer.set_data(batches(4))
    trainer.train(first, stop)
    if not seen:
        assert not (tmp_path / "profile").exists()
        return
    events = json.loads((tmp_path / "profile" / "trace.json").read_text())["traceEvents"]
    names = [event.get("name") for event in events]
    assert names.count("aten::gelu") == seen
    assert "aten::gelu" in (tmp_path / "profile" / "table.txt").read_text()


def test_memory(tmp_path):
    trainer, _, _ = build(tmp_path, 2)
    trainer.register_hooks([Profile(tmp_path, start=0, steps=1, memory=True)])
    trainer.set_data(batches(4))
    trainer.train(0, 2)
    assert "CPU Mem" in (tmp_path / "profile" / "table.txt").read_text()
