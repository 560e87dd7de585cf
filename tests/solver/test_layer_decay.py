import pytest
import timm
import torch

from itpn_d2 import create_model
from itpn_d2.solver import group_table, parameter_groups, parameter_rules


@pytest.fixture(scope="module")
def model():
    return create_model("fast_itpn_nano", pyramid=True, fpn_dim=32)


def scales(model, decay=0.5):
    return {rule.name: rule.lr_scale for _, rule in parameter_rules(model, 0.05, decay)}


def test_scales(model):
    got = scales(model)
    last = 9  # 8 blocks + 1
    assert got["trunk.patch_embed.proj.weight"] == got["trunk.pos_embed"] == 0.5**last
    assert got["trunk.stage1.0.mlp.fc1.weight"] == got["trunk.merge1.reduction.weight"] == 0.5 ** (last - 1)
    assert got["trunk.stage2.0.norm.bias"] == got["trunk.merge2.norm.bias"] == 0.5 ** (last - 2)
    assert (
        got["trunk.stage3.5.attn.qkv.weight"] == 0.5
    )  # the last block: one step below the heads, never above
    assert {v for k, v in got.items() if k.startswith("pyramid.")} == {1.0}
    assert got["trunk.norm.weight"] == 1.0


def test_scales_never_fall_with_depth(model):
    got = scales(model)
    order = [got[f"trunk.stage3.{i}.mlp.w1.weight"] for i in range(6)]
    assert order == sorted(order) and max(got.values()) == 1.0


def test_weight_decay(model):
    for parameter, rule in parameter_rules(model, 0.05):
        undecayed = parameter.ndim <= 1 or rule.name.endswith("pos_embed")
        assert rule.weight_decay == (0.0 if undecayed else 0.05), rule.name


def test_groups_hold_every_trainable_parameter_once(model):
    model.trunk.patch_embed.requires_grad_(False)
    groups = parameter_groups(model, 1e-3, 0.05, 0.9)
    model.trunk.patch_embed.requires_grad_(True)
    ids = [id(p) for g in groups for p in g["params"]]
    expected = {id(p) for n, p in model.named_parameters() if not n.startswith("trunk.patch_embed")}
    assert len(ids) == len(set(ids)) and set(ids) == expected
    assert max(g["lr"] for g in groups) == 1e-3
    torch.optim.AdamW(groups, lr=1e-3)


def test_prefix_does_not_matter(model):
    inside = scales(torch.nn.ModuleDict({"backbone": model}))
    assert inside == {f"backbone.{k}": v for k, v in scales(model).items()}


def test_table_counts_everything(model):
    optimizer = torch.optim.AdamW(parameter_groups(model, 1e-3, 0.05, 0.9), lr=1e-3)
    table = group_table(optimizer, model)
    assert len(table.splitlines()) == 1 + len(optimizer.param_groups)
    counts = [int(line.split()[4].replace(",", "")) for line in table.splitlines()[1:]]
    assert sum(counts) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("decay", [0.0, 1.1, -1])
def test_refuses(model, decay):
    with pytest.raises(ValueError, match="layer_decay"):
        parameter_rules(model, 0.05, decay)


def test_merges_may_count_as_layers(model):
    got = {rule.name: rule.lr_scale for _, rule in parameter_rules(model, 0.05, 0.5, count_merges=True)}
    order = [
        "patch_embed.proj",
        "stage1.0.norm",
        "merge1.norm",
        "stage2.0.norm",
        "merge2.norm",
        "stage3.0.norm1",
    ]
    assert [got[f"trunk.{name}.weight"] for name in order] == [0.5**k for k in (11, 10, 9, 8, 7, 6)]
    assert got["trunk.stage3.5.norm1.weight"] == 0.5 and got["trunk.norm.weight"] == 1.0


def test_networks_of_timm_have_their_own_layers():
    network = timm.create_model("test_vit", num_classes=3)
    got = scales(torch.nn.ModuleDict({"network": network}))
    depth = len(network.blocks)
    assert got["network.patch_embed.proj.weight"] == got["network.pos_embed"] == 0.5 ** (depth + 1)
    assert got[f"network.blocks.{depth - 1}.norm1.weight"] == 0.5 and got["network.head.weight"] == 1.0


def test_unknown_layers_are_an_error():
    with pytest.raises(ValueError, match=r"Linear holds neither .*layer_decay=1.0"):
        parameter_rules(torch.nn.Linear(2, 2), layer_decay=0.5)
    assert len(parameter_rules(torch.nn.Linear(2, 2))) == 2


def decays(model, **options):
    return {rule.name: rule.weight_decay for _, rule in parameter_rules(model, 0.05, **options)}


def test_embeddings_are_not_decayed():
    inside = torch.nn.ModuleDict({"labels": torch.nn.Embedding(3, 4), "linear": torch.nn.Linear(4, 4)})
    assert decays(torch.nn.ModuleDict({"head": inside})) == {
        "head.labels.weight": 0.0,
        "head.linear.weight": 0.05,
        "head.linear.bias": 0.0,
    }


def test_a_recipe_may_have_it_the_other_way(model):
    got = decays(model, decayed=["pos_embed"], undecayed=["patch_embed.proj.weight", "w3.weight"])
    assert got["trunk.pos_embed"] == 0.05 and got["trunk.patch_embed.proj.weight"] == 0.0
    assert {v for k, v in got.items() if k.endswith("w3.weight")} == {0.0}
    changed = {k for k, v in decays(model).items() if v != got[k]}
    assert all(k.endswith(("pos_embed", "patch_embed.proj.weight", "w3.weight")) for k in changed)
    groups = parameter_groups(model, 1.0, decayed=["pos_embed"])
    assert any(p is model.trunk.pos_embed for g in groups if g["weight_decay"] for p in g["params"])


def test_names_without_a_parameter_are_an_error(model):
    for key in ("decayed", "undecayed"):
        with pytest.raises(ValueError, match=rf"optimizer.params.{key}: no parameter.*'embed'"):
            parameter_rules(model, **{key: ["embed"]})  # whole parts of a name only
    with pytest.raises(ValueError, match="trunk.pos_embed is in decayed and in undecayed"):
        parameter_rules(model, decayed=["pos_embed"], undecayed=["trunk.pos_embed"])
