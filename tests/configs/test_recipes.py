"""Every config that quotes a paper or a reference has its values; what departs is listed with its reason in
recipes.yaml, and nothing is listed that does not."""

import inspect
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from detectron2.config import instantiate
from detectron2.utils.registry import locate
from omegaconf import OmegaConf

from itpn_d2.engine import load_config

ROOT = Path(__file__).resolve().parents[2] / "configs"
DATA = yaml.safe_load(Path(__file__).with_name("recipes.yaml").read_text(encoding="utf-8"))
CASES = [(config, recipe) for recipe in DATA["recipes"] for config in recipe["configs"]]
QUOTING = ("ImageNet-Classification", "Pretrain", "COCO-", "ADE20K-")
IMAGES = {"ImageNet-Classification": 1281167, "COCO-": 117266}  # of COCO, those with boxes
MISSING = object()


@cache
def config(name: str) -> Any:
    cfg = load_config(str(ROOT / f"{name}.py"))
    for key in ("num_classes", "num_semantic_classes"):
        if key in cfg.get("dataset", {}):
            cfg.dataset[key] = cfg.dataset[key] or 80
    return cfg


@cache
def decays(name: str) -> dict[str, bool]:
    cfg = config(name)
    if "teacher" in cfg.model:
        cfg.model.teacher.random = True
    with torch.device("meta"):
        model = instantiate(cfg.model)
    params = cfg.optimizer.params.copy()
    params._set_parent(cfg.optimizer)  # the rate is that of the optimizer
    params.model = model
    decayed = {id(p): g["weight_decay"] > 0 for g in instantiate(params) for p in g["params"]}
    return {name: decayed[id(p)] for name, p in model.named_parameters() if id(p) in decayed}


def derived(name: str, key: str) -> Any:
    """Values that no single key of a config has; :data:`MISSING` for other keys."""
    cfg = config(name)
    if key.startswith("decays "):
        found = decays(name)
        return found[key.removeprefix("decays ")]
    batch = cfg.dataloader.train.total_batch_size
    base = cfg.train.get("base_lr")
    rate = cfg.optimizer.lr if base is None else base * batch / 256
    images = next((n for kind, n in IMAGES.items() if name.startswith(kind)), None)
    schedule = cfg.lr_multiplier
    epochs = cfg.train.get("epochs") or (images and round(cfg.train.max_iter * batch / images))
    milestones = schedule.scheduler.get("milestones") or []
    known = {
        "rate": lambda: rate,
        "epochs": lambda: epochs,
        "warmup_epochs": lambda: schedule.warmup_length * epochs,
        "warmup_iterations": lambda: schedule.warmup_length * cfg.train.max_iter,
        "final_rate": lambda: schedule.scheduler.end_value * rate,
        "drop_iterations": lambda: list(milestones),
        "drop_epochs": lambda: [round(m * batch / images, 1) for m in milestones],
    }
    return known[key]() if key in known else MISSING


def value(name: str, key: str) -> Any:
    """What a config has at ``key``: itself, or by the default of what it calls."""
    found = derived(name, key)
    if found is not MISSING:
        return found
    node: Any = config(name)
    *path, last = key.split(".")
    for part in path:
        node = node[part]
    if last in node:
        found = node[last]
        if last == "_target_" and not isinstance(found, str):
            return f"{found.__module__}.{found.__qualname__}"
    else:
        target = node["_target_"]
        target = locate(target) if isinstance(target, str) else target
        kinds = (
            target.__mro__ if inspect.isclass(target) else [target]
        )  # options may be those of a base class
        known = [inspect.signature(kind).parameters for kind in kinds if kind is not object]
        found = next((p[last].default for p in known if last in p), inspect.Parameter.empty)
        assert found is not inspect.Parameter.empty, f"{name}: {key} is neither set nor has a default"
    return OmegaConf.to_container(found) if OmegaConf.is_config(found) else found


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[k], expected[k]) for k in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, (int, float)) and not isinstance(expected, bool):
        return found is not None and found == pytest.approx(expected, rel=1e-5, abs=1e-9)
    return found == expected


@pytest.mark.parametrize(("name", "recipe"), CASES, ids=[name for name, _ in CASES])
def test_recipe(name, recipe):
    departures = recipe.get("departures", {})
    wrong = []
    for key, official in recipe["official"].items():
        found = value(name, key)
        if key in departures:
            ours = departures[key]["ours"]
            if not same(found, ours):
                wrong.append(f"{key} is {found}; the departure says {ours}")
            if same(found, official):
                wrong.append(f"{key} is {found} as published; it is listed as a departure")
        elif not same(found, official):
            wrong.append(f"{key} is {found}, published is {official}")
    assert not wrong, "\n".join((name, recipe["source"], *wrong))


def test_departures_are_of_published_values_and_have_reasons():
    for recipe in DATA["recipes"]:
        assert len(recipe["source"]) > 10 and recipe["official"]
        assert all(len(text) > 20 for text in recipe.get("also", ()))
        for key, departure in recipe.get("departures", {}).items():
            assert key in recipe["official"], f"{recipe['configs'][0]}: {key} has no published value"
            assert set(departure) == {"ours", "why"} and len(departure["why"]) > 20


def test_every_config_is_covered_once():
    """By one recipe, or by the list of those that are ours: a new config has to say which."""
    quoted = [name for name, _ in CASES]
    assert len(quoted) == len(set(quoted))
    paths = (p.relative_to(ROOT).with_suffix("").as_posix() for p in ROOT.rglob("*.py"))
    names = sorted(n for n in paths if n.startswith(QUOTING))
    assert not set(quoted) - set(names)
    for name in names:
        patterns = [p for p in DATA["ours"] if fnmatch(name, p)]
        assert (name in quoted) != bool(patterns), (
            f"{name}: in a recipe, or in ours ({patterns or 'neither'})"
        )
    unused = [p for p in DATA["ours"] if not any(fnmatch(n, p) for n in names)]
    assert not unused


def test_quoted_numbers_stand_beside_quoted_recipes():
    """Or their note says what the config follows instead."""
    from itpn_d2.model_zoo.entries import ENTRIES

    quoted = {name for name, _ in CASES}
    for entry in ENTRIES.values():
        for metric in entry.metrics:
            if metric.origin == "quoted" and entry.name not in quoted:
                assert "not published" in metric.note, f"{entry.name}: {metric}"


@pytest.mark.parametrize(
    "name",
    [
        "COCO-Detection/dino_fast_itpn_tiny_1x",
        "COCO-InstanceSegmentation/mask_dino_fast_itpn_tiny_50ep",
        "ADE20K-SemanticSegmentation/mask_dino_fast_itpn_tiny_160k",
    ],
)
def test_no_embedding_of_a_dino_is_decayed(name):
    """Whatever is neither the weight of a product nor a vector: labels, queries, levels, positions."""
    found = decays(name)
    with torch.device("meta"):
        model = instantiate(config(name).model)
    products = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.MultiheadAttention)
    tables = {
        f"{prefix}.{key}" if prefix else key
        for prefix, module in model.named_modules()
        if not isinstance(module, products)
        for key, parameter in module.named_parameters(recurse=False)
        if parameter.ndim > 1 and parameter.requires_grad
    }
    assert {"backbone.trunk.pos_embed", "denoising.labels.weight", "encoder.level"} <= tables
    assert not [key for key in tables if found[key]]


@pytest.mark.parametrize(("features", "width"), [("tokens", 1024), ("projected", 768)])
def test_both_targets_of_fast_distillation(features, width):
    """The public code's, and what fits the released file."""
    cfg = load_config(
        str(ROOT / "Pretrain" / "distillation_fast_itpn_base.py"), [f"model.teacher.features={features}"]
    )
    cfg.model.teacher.random = True
    with torch.device("meta"):
        method = instantiate(cfg.model)
    assert method.teacher.dim == method.head.out_features == width and method.teacher.grid == (14, 14)


def test_pixels_resample_the_table_at_its_own_size():
    """As the reference does while patches are dropped; later at that size the table is used as it is."""
    for name, resampled in (("pixel_mim_itpn_base", True), ("pixel_mim_fast_itpn_base", False)):
        cfg = load_config(str(ROOT / "Pretrain" / f"{name}.py"))
        cfg.model.backbone.update(channels=[8, 16, 32], depths=[1, 1, 1], num_heads=2, fpn_dim=16)
        cfg.model.update(decoder_dim=32, decoder_depth=1, decoder_heads=2)
        trunk = instantiate(cfg.model).backbone.trunk
        with torch.no_grad():
            used = trunk.positions((14, 14))
        assert torch.equal(used, trunk.pos_embed) != resampled
        assert (used - trunk.pos_embed).abs().max() < 0.2
