"""Files of every layout with some tensors of other shapes, under other names or left out: loaded, or refused
by a message, never an error of torch's."""

import random

import pytest
import timm
import torch

from itpn_d2 import create_model
from itpn_d2.checkpoint import (
    CheckpointError,
    atomic_save,
    convert,
    create_from_checkpoint,
    from_native,
    inspect,
    load_pretrained,
)
from tests.checkpoint.test_detectors import NAMES, fixture

MICRO = dict(channels=(8, 16, 32), depths=(1, 1, 2), num_heads=2, pos_grid=(4, 4), pyramid=True, fpn_dim=24)
SHAPES = [
    (),
    (1,),
    (3,),
    (2, 2),
    (1, 4, 4, 32),
    (7, 0),
    (0,),
    (2, 3, 4, 5, 6),
    (32, 32),
    (5, 5, 5),
    (1, 49, 32),
]


def vit():
    return timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=16, num_heads=2)


MODELS = {
    "fast": lambda: create_model("fast_itpn_nano", **MICRO),
    "v1": lambda: create_model("itpn_nano", **MICRO),
    "vit": vit,
}


def changed(state, dice):
    state = dict(state)
    for _ in range(dice.randint(1, 3)):
        name = dice.choice(list(state))
        what = dice.random()
        if what < 0.6:
            kind = dice.choice((torch.float32, torch.float16, torch.int64))
            state[name] = torch.ones(dice.choice(SHAPES), dtype=kind)
        elif what < 0.8:
            del state[name]
        else:
            state[name + dice.choice((".x", "1", ".9.weight", ""))] = state.pop(name)
    return state


@pytest.mark.parametrize("name", [*MODELS, "fast official", "v1 official", *NAMES])
def test_random_changes(tmp_path, name):
    dice = random.Random(name)
    model = MODELS.get(name.split()[0])
    heads = 8
    if model is None:
        _, state, build = fixture(name)
        heads = build["num_heads"]
    else:
        state = model().state_dict()
        state = from_native(state) if name.endswith("official") else state
    path, target = tmp_path / "x.pth", tmp_path / "y.pth"
    for _ in range(12):
        atomic_save({"model": changed(state, dice)}, path)
        ways = [
            lambda: inspect(path, num_heads=heads),
            lambda: convert(
                path, target, dice.choice(("official", "itpn_d2")), overwrite=True, num_heads=heads
            ),
        ]
        if model is not None:
            ways += [lambda: load_pretrained(model(), path), lambda: create_from_checkpoint(path)]
        for way in ways:
            try:
                way()
            except CheckpointError as error:
                assert str(tmp_path) in str(error)
