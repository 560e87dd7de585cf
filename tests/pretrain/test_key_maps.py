"""Published FastMIM names map there and back without a change of a value."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pretrain.key_maps import fastmim_from_native, fastmim_to_native

FIXTURES = Path(__file__).resolve().parents[1] / "data" / "fixtures"


@pytest.mark.parametrize("name", ["fastmim_vit", "fastmim_swin"])
def test_round_trip(name):
    tensors = load_file(FIXTURES / f"{name}.safetensors")
    published = {k.removeprefix("weights/"): v for k, v in tensors.items() if k.startswith("weights/")}
    ours = fastmim_to_native(published)
    assert fastmim_to_native(ours).keys() == ours.keys()
    back = fastmim_from_native(ours)
    lost = published.keys() - back.keys()
    assert all(k.endswith(("relative_position_index", "attn_mask")) for k in lost)
    assert back.keys() <= published.keys()
    assert all(torch.equal(back[k], published[k]) for k in back)


def test_merges_move_to_the_next_stage():
    key = "encoder.layers.2.downsample.norm.weight"
    ours = fastmim_to_native({key: torch.zeros(1)})
    assert list(ours) == ["encoder.backbone.layers.3.downsample.norm.weight"]


def test_foreign_names_are_refused():
    with pytest.raises(KeyError, match="head.weight"):
        fastmim_from_native({"head.weight": torch.zeros(1)})
