"""Towers filled from files: features against a CLIP tower written out here, and files that do not fit."""

import sys

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from itpn_d2.checkpoint import CheckpointError
from pretrain.targets import CLIPTeacher
from pretrain.targets.teacher import CLIP_MEAN, CLIP_STD

NAME, QUICK = "vit_base_patch16_clip_224", "vit_base_patch16_clip_quickgelu_224"
WIDTH, HEADS, PATCH = 32, 2, 16
MICRO = {"embed_dim": WIDTH, "depth": 2, "num_heads": HEADS}


def micro(**options):
    return CLIPTeacher(**{"name": NAME, "random": True, "image_size": 64, "options": MICRO, **options})


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, 64, 64), generator=generator, dtype=torch.uint8)


def clip_state(grid=4, joint=24, prefix="visual."):
    """A whole CLIP model's state dict with a micro image tower, as OpenAI and open_clip name it."""
    g = torch.Generator().manual_seed(1)

    def draw(*shape, around=0.0):
        return around + 0.3 * torch.randn(*shape, generator=g)

    state = {
        "class_embedding": draw(WIDTH),
        "positional_embedding": draw(1 + grid * grid, WIDTH),
        "conv1.weight": draw(WIDTH, 3, PATCH, PATCH) / PATCH,
        "proj": draw(WIDTH, joint),
    }
    norms = ["ln_pre", "ln_post"]
    for i in range(2):
        block = f"transformer.resblocks.{i}."
        norms += [f"{block}ln_1", f"{block}ln_2"]
        shapes = {"attn.in_proj_": (3 * WIDTH, WIDTH), "attn.out_proj.": (WIDTH, WIDTH)}
        shapes |= {"mlp.c_fc.": (4 * WIDTH, WIDTH), "mlp.c_proj.": (WIDTH, 4 * WIDTH)}
        for name, shape in shapes.items():
            state[f"{block}{name}weight"], state[f"{block}{name}bias"] = draw(*shape), draw(shape[0])
    for norm in norms:
        state[f"{norm}.weight"], state[f"{norm}.bias"] = draw(WIDTH, around=1.0), draw(WIDTH)
    text = {"text_projection": draw(4, 4), "logit_scale": draw(1)} if prefix else {}
    return {prefix + k: v for k, v in state.items()} | text


def clip_tokens(state, image, activation=F.gelu):
    """CLIP's image tower, written out: ``ln_post`` of the patch tokens."""
    s = {k.removeprefix("visual."): v for k, v in state.items()}

    def norm(x, name):
        return F.layer_norm(x, (WIDTH,), s[f"{name}.weight"], s[f"{name}.bias"])

    mean, std = torch.tensor(CLIP_MEAN).view(3, 1, 1), torch.tensor(CLIP_STD).view(3, 1, 1)
    x = F.conv2d((image.float() - mean) / std, s["conv1.weight"], stride=PATCH).flatten(2).mT
    x = torch.cat((s["class_embedding"].expand(len(x), 1, -1), x), 1) + s["positional_embedding"]
    x = norm(x, "ln_pre")
    for i in range(2):
        b = f"transformer.resblocks.{i}."
        qkv = F.linear(norm(x, f"{b}ln_1"), s[f"{b}attn.in_proj_weight"], s[f"{b}attn.in_proj_bias"])
        q, k, v = qkv.unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT * (WIDTH // HEADS) ** -0.5).softmax(-1)
        y = (weights @ v).transpose(1, 2).flatten(2)
        x = x + F.linear(y, s[f"{b}attn.out_proj.weight"], s[f"{b}attn.out_proj.bias"])
        y = F.linear(norm(x, f"{b}ln_2"), s[f"{b}mlp.c_fc.weight"], s[f"{b}mlp.c_fc.bias"])
        x = x + F.linear(activation(y), s[f"{b}mlp.c_proj.weight"], s[f"{b}mlp.c_proj.bias"])
    return norm(x, "ln_post")[:, 1:]


@pytest.fixture
def file(tmp_path):
    def write(state, name="clip.safetensors"):
        path = tmp_path / name
        if path.suffix == ".safetensors":
            save_file({k: v.contiguous() for k, v in state.items()}, path)
        else:
            torch.save(state, path)
        return path

    return write


def loaded(path, **options):
    return micro(weights=path, random=False, **options)


@pytest.mark.parametrize(
    "prefix, name", [("visual.", "c.safetensors"), ("", "c.pt"), ("module.visual.", "c.pt")]
)
def test_reads_clip_checkpoints(file, images, prefix, name):
    state = clip_state(prefix=prefix)
    expected = clip_tokens(clip_state(), images)
    tokens = loaded(file({"state_dict": state} if name == "c.pt" else state, name))(images)
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-4)


def test_projects_then_normalises(file, images):
    state = clip_state()
    teacher = loaded(file(state), features="projected")
    expected = clip_tokens(state, images) @ state["visual.proj"]
    assert teacher.dim == 24
    torch.testing.assert_close(teacher(images), expected, rtol=1e-4, atol=1e-4)
    normal = loaded(file(state), features="projected", normalise=True)(images)
    torch.testing.assert_close(normal, F.layer_norm(expected, (24,)), rtol=1e-3, atol=1e-3)


def test_quickgelu_is_part_of_the_name(file, images):
    marks = {k: torch.tensor(1.0) for k in ("input_resolution", "context_length", "vocab_size")}
    state = clip_state()
    with pytest.raises(CheckpointError, match=f"OpenAI's weights, trained with QuickGELU.*choose {QUICK}"):
        loaded(file(state | marks))
    tokens = loaded(file(state | marks), name=QUICK)(images)
    expected = clip_tokens(state, images, lambda x: x * torch.sigmoid(1.702 * x))
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-4)


def timm_state(half=False):
    """The state dict of a micro tower as timm stores it: without marks, whoever trained it."""
    state = micro().tower.vit.state_dict()
    noise = torch.Generator().manual_seed(2)
    moved = {k: v + 0.1 * torch.randn(v.shape, generator=noise) for k, v in state.items()}
    return {k: v.half().float() if half and v.ndim > 1 else v for k, v in moved.items()}


HUB = "models--timm--{}/snapshots/0123/model.safetensors"  # where the hub's cache has a file


@pytest.mark.parametrize(
    "name",
    [
        HUB.format("vit_base_patch16_clip_224.openai"),
        "ViT-B-16_OpenAI.safetensors",
        "b16_metaclip_400m.safetensors",
    ],
)
def test_quickgelu_by_the_name_of_a_file(tmp_path, file, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    path = file(timm_state(), name)
    with pytest.raises(
        CheckpointError, match=f"according to its name, it was trained with QuickGELU.*choose {QUICK}"
    ):
        loaded(path)
    assert loaded(path, name=QUICK).dim == WIDTH


@pytest.mark.parametrize(
    "name", ["vit_b.openai_ft_in1k.safetensors", "laion2b.safetensors", "b16.datacomp_xl.safetensors"]
)
def test_gelu_by_the_name_of_a_file(file, name):
    path = file(timm_state(), name)
    assert loaded(path).dim == WIDTH
    with pytest.raises(
        CheckpointError, match=f"according to its name, it was trained with GELU.*choose {NAME} "
    ):
        loaded(path, name=QUICK)


def test_quickgelu_by_the_look_of_the_weights(file, caplog):
    """OpenAI published half-precision matrices and full-precision norms; timm's files have both as floats."""
    loaded(file(timm_state()))
    loaded(file({k: v.half().float() for k, v in timm_state().items()}))  # anybody's, stored in half
    assert not caplog.messages
    loaded(file(timm_state(half=True)), name=QUICK)
    assert not caplog.messages
    path = file(timm_state(half=True))
    loaded(path)
    assert len(caplog.messages) == 1
    assert all(word in caplog.text for word in (str(path), "QuickGELU", QUICK))


def test_grids_follow_the_image_size(file):
    path = file(clip_state())
    for size, grid in ((64, (4, 4)), (96, (6, 6)), (48, (3, 3))):
        teacher = loaded(path, image_size=size)
        tokens = teacher(torch.zeros(1, 3, size, size))
        assert teacher.grid == grid and teacher.image_size == (size, size)
        assert tokens.shape == (1, grid[0] * grid[1], WIDTH) == (1, grid[0] * grid[1], teacher.dim)
    large = micro(name="vit_large_patch14_clip_224", image_size=196)
    assert large.grid == (14, 14) and micro(image_size=None).grid == (14, 14)
    with pytest.raises(ValueError, match="image_size 200: .* patches of 14 pixels; choose e.g. 196"):
        micro(name="vit_large_patch14_clip_224", image_size=200)


def test_resampled_positions_keep_their_place(file, images):
    state = clip_state()
    ramp = torch.linspace(0, 1, 4).repeat_interleave(4)  # grows from row to row
    state["visual.positional_embedding"] = torch.cat((torch.full((1,), 9.0), ramp))[:, None].repeat(1, WIDTH)
    table = loaded(file(state), image_size=128).tower.vit.pos_embed[0]
    rows = table[1:, 0].view(8, 8)
    assert table[0, 0] == 9 and (rows.diff(dim=0) > 0).all()
    assert rows.diff(dim=1).abs().max() < 1e-5


def test_refuses_the_wrong_file(file):
    state = clip_state()
    with pytest.raises(CheckpointError, match="do not fit.*is missing"):
        loaded(file({k: v for k, v in state.items() if "ln_post" not in k}))
    with pytest.raises(CheckpointError, match=r"blocks\.2.* is unknown.*and \d+ more"):
        extra = {k.replace("blocks.1", "blocks.2"): v.clone() for k, v in state.items() if "blocks.1" in k}
        loaded(file(state | extra))
    with pytest.raises(CheckpointError, match=r"instead of"):
        loaded(file(state), options={**MICRO, "embed_dim": 48})
    del state["visual.proj"]
    assert loaded(file(state)).dim == WIDTH
    with pytest.raises(ValueError, match="has no CLIP projection"):
        loaded(file(state), features="projected")


def test_open_clip_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ImportError, match="pip install open_clip_torch"):
        CLIPTeacher("ViT-B-16", source="open_clip", random=True)


@pytest.mark.slow
def test_open_clip_agrees_with_timm(tmp_path):
    open_clip = pytest.importorskip("open_clip")
    path = tmp_path / "clip.pt"
    torch.save(open_clip.create_model("ViT-B-32").state_dict(), path)
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 255
    options = {"weights": path, "image_size": 128, "features": "projected"}
    ours = CLIPTeacher("vit_base_patch32_clip_224", **options)(image)
    theirs = CLIPTeacher("ViT-B-32", source="open_clip", **options)(image)
    assert ours.shape == (1, 16, 512)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    for name in ("ViT-none", "ViT-B-16-SigLIP", "RN50"):
        with pytest.raises(ValueError, match=f"name '{name}'"):
            CLIPTeacher(name, source="open_clip", random=True)
