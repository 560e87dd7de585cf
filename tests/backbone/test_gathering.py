"""What windows see of each other, and where gathering tokens start."""

import pytest
import torch

from itpn_d2.backbone import TokenGathering, create_model


def changed_tokens(model, shape, cell):
    """Which tokens ``(rows, columns)`` change at all when the pixels of one do."""
    torch.manual_seed(3)
    image = torch.randn(1, 3, *shape)
    other = image.clone()
    row, column = cell
    other[:, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] += 1
    return (model.trunk(image)[2] != model.trunk(other)[2]).any(-1)[0]


def test_windows_are_apart_without_gathering_tokens(micro):
    model = micro(gathering={"window": 3, "tokens": 0})
    expected = torch.zeros(5, 8, dtype=torch.bool)
    expected[3:5, 3:6] = True
    assert torch.equal(changed_tokens(model, (80, 128), (4, 5)), expected)


@pytest.mark.parametrize("options", [{"tokens": 4}, {"tokens": 1}, {"tokens": 0, "global_blocks": (2,)}])
def test_gathering_tokens_or_a_global_block_join_them(micro, options):
    assert changed_tokens(micro(gathering={"window": 3, **options}), (80, 128), (4, 5)).all()


@pytest.mark.parametrize("count, rows", [(1, 1), (2, 1), (4, 2), (6, 2), (7, 1), (16, 4)])
@pytest.mark.parametrize("grid", [(6, 8), (5, 7), (1, 3), (2, 20)])
def test_start_is_the_mean_of_parts_of_the_image(count, rows, grid):
    torch.manual_seed(0)
    gathering = TokenGathering(8, 4, tokens=count)
    maps = torch.randn(2, *grid, 8)
    pool = torch.nn.AdaptiveAvgPool2d((rows, count // rows))  # whose parts are the same
    expected = pool(maps.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
    assert torch.allclose(gathering.start(maps.flatten(1, 2), grid), expected, atol=1e-6)
    torch.nn.init.normal_(gathering.offset)
    moved = gathering.start(maps.flatten(1, 2), grid)
    assert torch.allclose(moved, expected + gathering.offset, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_start_sees_no_padding(dtype):
    torch.manual_seed(0)
    gathering = TokenGathering(8, 4).to(dtype)
    maps = torch.full((2, 6, 8, 8), 100.0, dtype=dtype)  # padding that would show
    grids = [(4, 7), (6, 3)]
    for slot, (h, w) in zip(maps, grids, strict=True):
        slot[:h, :w] = torch.randn(h, w, 8)
    start = gathering.start(maps.flatten(1, 2), (6, 8), torch.tensor(grids))
    assert start.dtype == dtype
    for i, (h, w) in enumerate(grids):
        alone = gathering.start(maps[i : i + 1, :h, :w].flatten(1, 2), (h, w))
        atol = 1e-6 if dtype == torch.float32 else 0.02
        assert torch.allclose(start[i : i + 1].float(), alone.float(), atol=atol)


def test_gathering_tokens_differ_from_the_first_block_on(micro):
    """Equal tokens would stay equal, and learn nothing that one of them would not."""
    model = micro(gathering={"window": 3})
    seen = []
    model.trunk.stage3[-1].register_forward_hook(lambda module, given, out: seen.append(out[0, -4:]))
    model(torch.randn(1, 3, 96, 96))
    apart = torch.cdist(seen[0], seen[0]) + torch.eye(4)
    assert apart.min() > 1e-2


@pytest.mark.parametrize(
    "options, words",
    [
        ({"window": 0}, "window 0"),
        ({"tokens": -1}, "tokens -1"),
        ({"global_blocks": (1, 4)}, r"\[4\].*blocks 0 to 3"),
    ],
)
def test_wrong_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        TokenGathering(8, 4, **options)


def test_a_module_for_another_trunk_is_refused(micro):
    with pytest.raises(ValueError, match="gathering is for dim 16 and depth 4, but stage 3 has 32 and 4"):
        micro(gathering=TokenGathering(16, 4))


def test_tokens_that_nobody_would_see_are_refused():
    with pytest.raises(ValueError, match="all blocks are global"):
        TokenGathering(8, 2, tokens=2, global_blocks=(0, 1))
    TokenGathering(8, 2, tokens=0, global_blocks=(0, 1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gathering": {"windw": 8}}, "gathering takes no windw; did you mean window"),
        ({"migration": {"kep": 0.7}}, "migration takes no kep; did you mean keep"),
        ({"migration": {"dim": 3}}, "migration takes no dim"),
    ],
)
def test_unknown_options_name_the_nearest(options, words):
    with pytest.raises(ValueError, match=words):
        create_model("fast_itpn_nano", **options)
