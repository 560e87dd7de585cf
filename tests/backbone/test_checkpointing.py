"""Blocks that are computed again: which, and that nothing but memory changes."""

import pytest
import torch

from itpn_d2 import create_model
from itpn_d2.engine import load_config

WAYS = {
    "dense": {},
    "migration": {"migration": {"keep": 0.6}},
    "gathering": {"gathering": {"window": 4}},
    "both": {"migration": {"keep": 0.6}, "gathering": {"window": 3, "global_blocks": (1,)}},
}
SPECS = ["all", "all/2", "stage1", ("stage3/2", "pyramid"), ["stage3.1"], "stage3, keep_attention"]


def recomputed(model):
    return [n for n, m in model.named_modules() if getattr(m, "recompute", False)]


def gradients(model, image, sizes):
    torch.manual_seed(3)
    out = model(image, sizes)
    sum(level.square().mean() for level in out.values()).backward()
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    return found, torch.get_rng_state()


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (False, []),
        ((), []),
        ("none", []),
        ("stage3", [f"trunk.stage3.{i}" for i in range(4)]),
        ("stage3/2", ["trunk.stage3.1", "trunk.stage3.3"]),
        ("stage3/9", []),
        ("stage2, stage3.0", ["trunk.stage2.0", "trunk.stage3.0"]),
        (["all/3"], ["trunk.stage3.2", "out_p4"]),
        ("pyramid", ["blocks_p3.0", "blocks_p2.0", "out_p4", "out_p3", "out_p2"]),
    ],
    ids=str,
)
def test_which_blocks(micro, spec, names):
    names = [n if "." in n and not n.startswith("blocks") else f"pyramid.{n}" for n in names]
    model = micro()
    model.set_grad_checkpointing(True)
    assert len(recomputed(model)) == 1 + 1 + 4 + 5
    model.set_grad_checkpointing(spec)
    assert recomputed(model) == names


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_gradients_are_the_same(micro, padded, way, spec):
    """With stochastic depth, whose random numbers have to be the same the second time."""
    model = micro(drop_path=0.5, **WAYS[way]).train()
    plain, state = gradients(model, *padded)
    model.set_grad_checkpointing(spec)
    saving, after = gradients(model, *padded)
    assert all(torch.allclose(a, b, atol=1e-6, rtol=1e-5) for a, b in zip(plain, saving, strict=True))
    assert torch.equal(state, after)


@pytest.mark.parametrize("name", ["fast_itpn_nano", "itpn_nano"])
def test_attention_is_kept_or_done_again(micro, monkeypatch, name):
    """Counted below autograd: the results of the fused product that a block computes."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        done = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            text = str(function)
            self.done += "scaled_dot_product" in text and "backward" not in text
            return function(*args, **(kwargs or {}))

    found = {}
    for spec in ("none", "stage3", "stage3, keep_attention"):
        model = micro(name, checkpointing=spec).train()
        with Count() as count:
            sum(level.sum() for level in model(torch.randn(1, 3, 64, 64)).values()).backward()
        found[spec] = count.done
    assert found == {"none": 4, "stage3": 8, "stage3, keep_attention": 4}


def test_only_training_recomputes(micro, monkeypatch):
    calls = []
    from itpn_d2.backbone import checkpointing

    original = checkpointing.checkpoint
    monkeypatch.setattr(checkpointing, "checkpoint", lambda *a, **k: calls.append(1) or original(*a, **k))
    model, image = micro(checkpointing="all"), torch.randn(1, 3, 64, 64)
    model(image)
    with torch.no_grad():
        model.train()(image)
    assert not calls
    model(image)
    assert len(calls) == 11


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["all", "stage3, pyramid, keep_attention"])
@pytest.mark.parametrize("way", WAYS)
def test_compiled(micro, way, spec):
    torch._dynamo.reset()
    model = micro(checkpointing=spec, **WAYS[way]).train()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    found = []
    image = torch.randn(1, 3, 96, 160)
    for run in (model, compiled):
        model.zero_grad()
        sum(level.square().mean() for level in run(image).values()).backward()
        found.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*found, strict=True))
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("stage4", "choose from none, all, stage1, stage2, stage3, pyramid, keep_attention"),
        ("stage3/0", "every 2nd"),
        ("all.1", "choose from"),
        ("stage3.4", "stage3 has blocks 0 to 3"),
        ("keep_attention", "needs blocks that are recomputed"),
        ((1, 2), "'1': choose from"),
    ],
)
def test_wrong_words(micro, spec, words):
    with pytest.raises(ValueError, match=words):
        micro(checkpointing=spec)


def test_a_trunk_has_no_pyramid():
    with pytest.raises(ValueError, match="choose from none, all, stage1, stage2, stage3, keep_attention"):
        create_model("fast_itpn_nano").set_grad_checkpointing("pyramid")


def test_from_configs():
    from pathlib import Path

    from detectron2.config import instantiate

    configs = Path(__file__).resolve().parents[2] / "configs"
    config = str(configs / "Quickstart" / "mask_rcnn_fast_itpn_nano.py")
    for override in ("all", "[stage3/2,pyramid]", "true"):
        cfg = load_config(config, [f"model.backbone.checkpointing={override}"])
        assert recomputed(instantiate(cfg.model.backbone))
    yaml = str(next(configs.rglob("*.yaml")))
    model = instantiate(load_config(yaml, ['MODEL.ITPN.CHECKPOINTING=["stage3/2"]']).model)
    assert {name.split(".")[-2] for name in recomputed(model)} == {"stage3"}
