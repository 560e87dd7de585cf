"""Batches on the device: what is moved, and when."""

from contextlib import contextmanager

import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks

from itpn_d2.engine import prefetch
from itpn_d2.engine.prefetch import on_device, prefetched, tensors_in

META = torch.device("meta")


def record():
    instances = Instances((8, 8))
    instances.gt_boxes, instances.gt_masks = Boxes(torch.ones(2, 4)), BitMasks(torch.ones(2, 8, 8))
    instances.gt_keypoints, instances.gt_classes = Keypoints(torch.ones(2, 3, 3)), torch.zeros(2)
    return {"image": torch.zeros(3, 8, 8), "instances": instances, "sem_seg": torch.zeros(8, 8), "height": 8}


def test_all_tensors_move_and_nothing_else():
    batch = [record(), {"extra": (torch.zeros(1), "text"), "position": 5}]
    moved = on_device(batch, META, but=("sem_seg",))
    instances = moved[0]["instances"]
    assert isinstance(instances.gt_boxes, Boxes) and isinstance(instances.gt_masks, BitMasks)
    assert [t.device for t in tensors_in(moved)] == [META] * 5 + [torch.device("cpu"), META]
    assert moved[0]["sem_seg"] is batch[0]["sem_seg"]
    assert moved[0]["height"] == 8 and moved[1]["extra"][1] == "text" and moved[1]["position"] == 5
    assert instances.image_size == (8, 8) and len(instances) == 2
    assert all(t.device.type == "cpu" for t in tensors_in(batch))  # the given one is as it was


def test_polygons_stay():
    instances = Instances((8, 8), gt_masks=PolygonMasks([[[0.0, 0, 4, 0, 4, 4]]]))
    assert on_device(instances, META).gt_masks is instances.gt_masks


def test_a_cpu_gets_the_batches_themselves():
    batches = [object(), object()]
    assert list(prefetched(batches, torch.device("cpu"))) == batches


def test_another_device_gets_copies():
    assert next(prefetched([torch.zeros(1)], META)).device == META


class Noted:
    """A stand-in for a stream of CUDA, which notes the order of things."""

    def __init__(self, notes):
        self.notes = notes

    @contextmanager
    def within(self):
        self.notes.append("copy")
        yield

    def join(self, tensors):
        self.notes.append(f"join {len(list(tensors))}")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_next_batch_is_on_its_way_while_a_step_runs(count):
    notes = []

    def batches():
        for number in range(count):
            notes.append(f"read {number}")
            yield {"image": torch.full((1,), float(number)), "position": [number]}

    steps = []
    for batch in prefetched(batches(), torch.device("cpu"), side=Noted(notes)):
        notes.append(f"step {batch['position'][0]}")
        steps.append(batch["image"].item())
    assert steps == list(range(count))
    if count == 3:
        # each copy is joined before its step, and before the next copy is started
        assert notes == [
            *("read 0", "copy", "join 1", "read 1", "copy", "step 0"),
            *("join 1", "read 2", "copy", "step 1", "join 1", "step 2"),
        ]


def test_a_stream_of_cuda(monkeypatch):
    """The calls, on a machine that need not have it."""
    calls = []

    class Stream:
        def __init__(self, device):
            calls.append(("made", device))

        def wait_stream(self, other):
            calls.append(("waits", other))

    class OfCuda(torch.Tensor):
        is_cuda = True

        def record_stream(self, stream):
            calls.append(("used in", stream))

    device = torch.device("cuda", 0)
    current = Stream("current")
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: ("within", stream))
    side = prefetch.SideStream(device)
    assert side.within() == ("within", side.stream)
    side.join([torch.zeros(1).as_subclass(OfCuda), torch.zeros(1)])
    assert calls == [("made", "current"), ("made", device), ("waits", side.stream), ("used in", current)]
