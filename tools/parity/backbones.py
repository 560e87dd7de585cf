"""Backbones and classifiers of the parity checker: built and run as a fixture's sidecar says."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from itpn_d2.backbone import ITPN, FastITPN, IntegralBackbone, IntegralPyramid, Trunk, TrunkClassifier
from itpn_d2.checkpoint import load_pretrained
from itpn_d2.checkpoint.rules import square_grid
from itpn_d2.errors import CheckpointError, UseError
from itpn_d2.layers import ResampleRule, resample_grid
from itpn_d2.layers.units import map_to_units

Outputs = dict[str, Tensor]
Block = dict[str, Any]  # a part of the sidecar
RESAMPLE: dict[str, ResampleRule] = {
    "exact": "size",
    "resample_if_different": "scale",
    "resample_always": "scale_always",
}


class Unsupported(UseError):
    """The fixture describes a model this project does not have (yet)."""


Model = TrunkClassifier | IntegralBackbone


def build_trunk(build: Block, variant: Block, grid: tuple[int, int], pooling: str = "none") -> Trunk:
    """The trunk of one variant, its position table of size ``grid``."""
    channels = tuple(build["channels"])
    ratios = [build["bridge_mlp_ratio"]] * 2 + [build["mlp_ratio"]]
    expected = [int(c * r) for c, r in zip(channels, ratios, strict=True)]
    if build["mlp_hidden"] != expected or (build["patch_size"], build["stem_stride"]) != (16, 4):
        raise Unsupported(
            f"patch {build['patch_size']}, stem {build['stem_stride']}, hidden {build['mlp_hidden']}"
        )
    shared = {
        "channels": channels,
        "depths": tuple(build["depths"]),
        "num_heads": build["num_heads"],
        "stage_mlp_ratio": build["bridge_mlp_ratio"],
        "mlp_ratio": build["mlp_ratio"],
        "layer_scale": 0.1 if variant["layer_scale"] else None,
        "pos_grid": grid,
        "in_channels": build["in_channels"],
        "norm_eps": build["norm_eps"],
    }
    if build["family"] == "fast_itpn":
        if variant["rel_pos"] != "none":
            raise Unsupported(f"relative positions {variant['rel_pos']}")
        return FastITPN(**shared, final_norm=pooling != "mean_then_norm")
    if build["family"] == "itpn":
        return ITPN(
            **shared,
            final_norm=pooling == "norm_then_mean",
            rel_pos=variant["rel_pos"],
            rel_pos_grid=build["rel_pos_grid"],
            pos_resample=RESAMPLE[build["pos_rule"]],
        )
    raise Unsupported(f"family {build['family']}")


def build_pyramid(build: Block) -> IntegralPyramid:
    fast = build["family"] == "fast_itpn"
    return IntegralPyramid(
        tuple(build["channels"]),
        build["fpn_dim"],
        build["fpn_depth"],
        (build["pyramid_mlp_hidden"] + 0.5) / build["fpn_dim"],
        lateral_bias=fast,
        split_bias=fast,
        norm_eps=build["norm_eps"],
        concat_trunk=build["task"] == "segmentation",
    )


def build_model(build: Block, variant: Block, grid: tuple[int, int]) -> Model:
    if build["task"] == "classification":
        trunk = build_trunk(build, variant, grid, variant["pooling"])
        return TrunkClassifier(trunk, build["num_classes"], variant["pooling"], build["norm_eps"])
    if build["task"] in ("pretrain_fast", "pyramid", "detection", "segmentation"):
        return IntegralBackbone(build_trunk(build, variant, grid), build_pyramid(build))
    raise Unsupported(f"task {build['task']}")


def variant_weights(variant: Block, case: Block, tensors: Outputs) -> Outputs:
    """The weights of one case: renamed, dropped and replaced as the sidecar says."""
    prefixes = tuple(variant["drop_prefixes_or_names"])
    weights = {}
    for key, value in tensors.items():
        name = key.removeprefix("weights/")
        dropped = any(name.startswith(p) if p.endswith(".") else name == p for p in prefixes)
        if key.startswith("weights/") and not dropped:
            weights[variant["rename"].get(name, name)] = value
    for name, replacement in case["weights_alt"].items():
        weights[name] = tensors[replacement]
    return weights


def shape_positions(build: Block, case: Block, weights: Outputs) -> tuple[int, int]:
    """Give the position table rows and columns, in place: the image's where they fit, else square."""
    name = "pos_embed" if "pos_embed" in weights else "absolute_pos_embed"
    grid = case["size"][0] // build["patch_size"], case["size"][1] // build["patch_size"]
    table = weights[name]
    fits = grid[0] * grid[1] == table.shape[1]
    weights[name] = table.unflatten(1, grid) if fits else square_grid(table)
    return weights[name].shape[1], weights[name].shape[2]


def load(model: nn.Module, weights: Outputs, missing: tuple[str, ...] = ()) -> None:
    """Through the checkpoint key maps; anything that does not fit, except for ``missing`` beginnings, is an
    error."""
    report = load_pretrained(model, weights)
    if [k for k in report.missing if not k.startswith(missing)] or report.unexpected or report.mismatched:
        raise CheckpointError(f"the weights do not fit the model\n{report}")


def watch(trunk: Trunk, found: Outputs, units: bool) -> list[Any]:
    """Hooks that keep every stage's output in ``found``, as NCHW maps or in unit layout."""

    def keep(name: str, cells: int) -> Callable:
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            if output.ndim == 5:
                found[name] = output
            else:
                found[name] = map_to_units(output, cells) if units else output.permute(0, 3, 1, 2)

        return hook

    watched = {"patch_embed": (trunk.patch_embed, 4), "stage1": (trunk.stage1[-1], 4)}
    watched |= {"merge1": (trunk.merge1, 2), "stage2": (trunk.stage2[-1], 2), "merge2": (trunk.merge2, 1)}
    handles = [m.register_forward_hook(keep(n, cells)) for n, (m, cells) in watched.items()]
    first, last = trunk.stage3[0], trunk.stage3[-1]
    handles.append(first.register_forward_pre_hook(lambda m, args: found.update(stage3_in=args[0])))
    handles.append(last.register_forward_hook(lambda m, args, output: found.update(stage3=output)))
    return handles


def run_model(build: Block, model: Model, image: Tensor) -> Outputs:
    """Forward pass, with every named stage's output in the layout of the fixture."""
    found: Outputs = {}
    units = build["family"] == "itpn"
    handles = watch(model.trunk, found, units)
    with torch.no_grad():
        if isinstance(model, TrunkClassifier):
            found["pooled"] = model.pool(image)
            found["logits"] = model.head(found["pooled"])
        else:
            maps = model.trunk(image)
            found["stage3_normed"] = maps[2].flatten(1, 2)
            levels = model.pyramid(*maps)
            for number, level in enumerate(("p2", "p3", "p4", "p5", "p6")):
                stride = 4 << number
                found[f"s{stride}"] = levels[level]
                found[f"p{stride}" if number < 3 else f"p{stride}_derived"] = levels[level]
                if number < 3:
                    as_map = levels[level].permute(0, 2, 3, 1)
                    found[f"p{stride}_units"] = map_to_units(as_map, 16 // stride)
    for handle in handles:
        handle.remove()
    return found


def run_case(build: Block, variant: Block, case: Block, tensors: Outputs) -> Outputs:
    """Build, load and run the model of one case."""
    weights = variant_weights(variant, case, tensors)
    model = build_model(build, variant, shape_positions(build, case, weights)).eval()
    load(model, weights, ("pyramid.",) if variant["num_outs"] == 2 else ())
    return run_model(build, model, tensors[case["image"]])


def run_check(check: Block, tensors: Outputs, build: Block) -> Tensor | None:
    """A stored tensor that needs no network, recomputed; None if the operation belongs to another family."""
    if not check.get("source"):
        return None
    source = tensors[check["source"]]
    rules: dict[str, ResampleRule] = {
        "resize_bicubic_exact": "size",
        "resize_bicubic_scale_factor": "scale_always",
    }
    if check["op"] in rules:
        resized = resample_grid(square_grid(source), tuple(check["grid"]), rules[check["op"]])
        return resized.flatten(1, 2).reshape(tensors[check["tensor"]].shape)
    if check["op"] == "avg_pool_2x2":
        return nn.functional.avg_pool2d(source, 2)
    return None
