"""What must hold for token migration and token gathering, alone and together, within the backbone."""

import pytest
import torch
from torch import nn

from itpn_d2.checkpoint import load_pretrained
from itpn_d2.layers.windows import keep_count

MIGRATION = {"keep": 0.6, "at": (0.25, 0.5, 0.75)}
GATHERING = {"window": 4, "tokens": 4}
BOTH = {"migration": MIGRATION, "gathering": GATHERING}
WAYS = {
    "migration": {"migration": MIGRATION},
    "gathering": {"gathering": GATHERING},
    "both": BOTH,
    "uneven windows": {
        "migration": MIGRATION,
        "gathering": {"window": 3, "tokens": 6, "global_blocks": (1,)},
    },
    "windows alone": {
        "migration": {"keep": (1.0, 0.3), "at": (0.25, 0.5)},
        "gathering": {"window": 3, "tokens": 0},
    },
    "at once": {"migration": {"keep": (0.9, 0.5), "at": (0.0, 0.0)}},
}
SHAPES = [(64, 64), (96, 160), (32, 224)]
TYPES = [torch.float32, torch.bfloat16]
each_way = pytest.mark.parametrize("way", WAYS)
each_type = pytest.mark.parametrize("dtype", TYPES, ids=["fp32", "bf16"])


def same(a, b):
    return all(torch.equal(a[level], b[level]) for level in a)


@pytest.fixture
def images():
    torch.manual_seed(2)
    return {shape: torch.randn(2, 3, *shape) for shape in SHAPES}


@each_type
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "off", [{}, {"migration": {"keep": 1.0}}, {"gathering": {"window": 14, "tokens": 0}}]
)
def test_nothing_dropped_in_one_window_is_dense_to_the_bit(micro, images, dtype, shape, off):
    dense, other = micro().to(dtype), micro(**off).to(dtype)
    assert same(dense(images[shape].to(dtype)), other(images[shape].to(dtype)))


@each_type
@pytest.mark.parametrize("off", [{"migration": {"keep": 1.0}}, {"gathering": {"window": 14, "tokens": 0}}])
def test_so_it_is_in_a_padded_batch(micro, padded, dtype, off):
    image, sizes = padded
    assert same(micro().to(dtype)(image.to(dtype), sizes), micro(**off).to(dtype)(image.to(dtype), sizes))


@each_way
@each_type
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("padding", [False, True])
def test_every_token_comes_back_to_its_cell(micro, images, way, dtype, shape, padding):
    """With blocks that change nothing, the accelerated trunk is the dense one, whoever left when."""
    image = images[shape].to(dtype)
    sizes = [shape, (shape[0] // 2, shape[1] - 16)] if padding else None
    features = []
    for options in ({}, WAYS[way]):
        model = micro(**options).to(dtype)
        for block in model.trunk.stage3:
            nn.init.zeros_(block.gamma_1)
            nn.init.zeros_(block.gamma_2)
        features.append(model(image, sizes))
    assert same(*features)


@each_way
def test_acceleration_does_something(micro, images, way):
    image = images[96, 160]
    dense, other = micro()(image), micro(**WAYS[way])(image)
    assert (dense["p4"] - other["p4"]).abs().max() > 1e-2
    assert all(level.isfinite().all() for level in other.values())


@each_way
def test_features_do_not_depend_on_the_batch(micro, padded, way):
    image, sizes = padded
    model = micro(**WAYS[way])
    together = model(image, sizes)
    found = model(image)  # the padding is found
    assert same(together, found)
    for i, (h, w) in enumerate(sizes):
        alone = model(image[i : i + 1, :, :h, :w])
        for level in ("p2", "p3", "p4"):
            stride = 2 ** int(level[1])
            inside = together[level][i, :, : h // stride, : w // stride]
            own = alone[level][0, :, : h // stride, : w // stride]
            assert torch.allclose(inside, own, atol=2e-5), (i, level)


@each_way
@each_type
def test_padding_has_no_influence(micro, padded, way, dtype):
    image, sizes = padded
    model = micro(**WAYS[way]).to(dtype)
    other = image.clone()
    for slot, (h, w) in zip(other, sizes, strict=True):
        slot[:, h:] = 3 * torch.randn_like(slot[:, h:])
        slot[:, :, w:] = -1
    first, second = model(image.to(dtype), sizes), model(other.to(dtype), sizes)
    for i, (h, w) in enumerate(sizes):
        for level in ("p2", "p3", "p4"):
            inside = (i, slice(None), slice(h // 2 ** int(level[1])), slice(w // 2 ** int(level[1])))
            assert torch.equal(first[level][inside], second[level][inside]), (i, level)
    assert not torch.equal(first["p2"], second["p2"])


@each_way
def test_counts_follow_from_the_shape(micro, way):
    model, counts = micro(**WAYS[way]), []
    for block in model.trunk.stage3:
        block.register_forward_hook(lambda module, given, out: counts[-1].append(out.shape[1]))
    for image in (torch.zeros(1, 3, 96, 160), torch.randn(1, 3, 96, 160)):
        counts.append([])
        model(image, [(96, 160)])
    assert counts[0] == counts[1]
    if way == "migration":
        expected = [60]
        for _ in range(3):
            expected.append(keep_count(expected[-1], 0.6))
        assert counts[0] == expected == [60, 36, 22, 14]
    if way == "gathering":
        assert counts[0] == [64] * 4


@each_way
@each_type
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_every_patch_and_every_weight(micro, padded, way, dtype, checkpointing):
    image, sizes = padded
    options = {name: dict(part) for name, part in WAYS[way].items()}
    if "migration" in options:
        options["migration"]["affine"] = True
    model = micro(**options).to(dtype).train()
    model.set_grad_checkpointing(checkpointing)
    image = image.to(dtype).requires_grad_()
    out = model(image, sizes)
    sum(level.float().square().mean() for level in out.values()).backward()
    for slot, (h, w) in zip(image.grad.float(), sizes, strict=True):
        cells = slot[:, :h, :w].abs().sum(0).unfold(0, 16, 16).unfold(1, 16, 16).sum((-1, -2))
        assert (cells > 0).all() and cells.isfinite().all()
    without = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    keep = options.get("migration", {}).get("keep")
    # a drop that keeps everything has no leaving tokens whose scale could learn
    assert without == set()
    assert keep is None or (model.trunk.migration.scale.grad.abs().sum(1) > 0).tolist() == [
        r < 1 for r in model.trunk.migration.ratios
    ]


@each_way
def test_drop_path(micro, padded, way):
    model = micro(drop_path=0.5, **WAYS[way]).train()
    torch.manual_seed(0)
    first, second = model(*padded), model(*padded)
    assert all(level.isfinite().all() for level in first.values())
    assert not torch.equal(first["p4"], second["p4"])


@each_way
def test_autocast_gives_one_type(micro, padded, way):
    with torch.autocast("cpu", torch.bfloat16):
        out = micro(**WAYS[way])(*padded)
    assert {level.dtype for level in out.values()} == {torch.bfloat16}


@each_way
def test_weights_of_a_dense_backbone_load(micro, images, way):
    dense, other = micro(), micro(**WAYS[way])
    learned = bool(WAYS[way].get("gathering", {}).get("tokens"))
    new = {"trunk.gathering.offset"} if learned else set()
    assert set(other.state_dict()) - set(dense.state_dict()) == new
    with torch.no_grad():
        for p in dense.parameters():
            p.mul_(1.1)
    report = load_pretrained(other, dense.state_dict())
    assert set(report.missing) == new and not report.unexpected and not report.mismatched
    expected = micro(**WAYS[way])
    expected.load_state_dict(dense.state_dict(), strict=False)
    dense.trunk.accelerate(**WAYS[way])  # after loading as well as before
    assert same(other(images[64, 64]), expected(images[64, 64]))
    assert same(other(images[64, 64]), dense(images[64, 64]))
    dense.trunk.accelerate()
    assert not same(other(images[96, 160]), dense(images[96, 160]))


@each_way
def test_first_trunk_too(micro, images, way):
    dense, other = micro("itpn_nano")(images[96, 160]), micro("itpn_nano", **WAYS[way])(images[96, 160])
    assert (dense["p4"] - other["p4"]).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["table", "decomposed"])
@pytest.mark.parametrize("way", ["migration", "gathering"])
def test_relative_positions_are_refused(micro, kind, way):
    with pytest.raises(ValueError, match="rel_pos='none'"):
        micro("itpn_nano", rel_pos=kind, **WAYS[way])
