"""Published FastMIM names get their places without a change of a value."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pretrain.key_maps import fastmim_to_native

FIXTURES = Path(__file__).resolve().parents[1] / "data" / "fixtures"


@pytest.mark.parametrize("name", ["fastmim_vit", "fastmim_swin"])
def test_every_tensor_has_a_place(name):
    tensors = load_file(FIXTURES / f"{name}.safetensors")
    published = {k.removeprefix("weights/"): v for k, v in tensors.items() if k.startswith("weights/")}
    ours = fastmim_to_native(published)
    assert fastmim_to_native(ours).keys() == ours.keys()
    dropped = {k for k in published if k.endswith(("relative_position_index", "attn_mask"))}
    kept = {id(value) for key, value in published.items() if key not in dropped}
    assert {id(value) for value in ours.values()} == kept and len(ours) == len(kept)


def test_merges_move_to_the_next_stage():
    key = "encoder.layers.2.downsample.norm.weight"
    ours = fastmim_to_native({key: torch.zeros(1)})
    assert list(ours) == ["encoder.backbone.layers.3.downsample.norm.weight"]
