"""Compare our models with stored outputs of the reference ones.

    python tools/check_parity.py FIXTURE.safetensors [--strict]

The sidecar FIXTURE.json says everything: its ``build`` block gives sizes, depths and variants, and names
inputs and outputs; its ``tensors`` give the tolerance of each output. The weights go through the checkpoint
key maps. Exit status: 0 all compared outputs are within tolerance; 1 one is not (or, with --strict, one could
not be compared); 2 the fixture can't be used.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import parity_fastmim
from itpn_d2.backbone import FastITPN, IntegralPyramid, TrunkClassifier
from itpn_d2.checkpoint import CheckpointError, load_pretrained
from itpn_d2.layers import resample_grid

Outputs = dict[str, Tensor]


class Unsupported(Exception):
    """The fixture describes a model this project does not have (yet)."""


class BackboneParts(nn.Module):
    """Trunk and pyramid with the names they have in a detector, without Detectron2."""

    trunk: FastITPN
    pyramid: IntegralPyramid

    def __init__(self, trunk: FastITPN, pyramid: IntegralPyramid):
        super().__init__()
        self.trunk, self.pyramid = trunk, pyramid


Model = TrunkClassifier | BackboneParts


def build_trunk(
    build: dict[str, Any], variant: dict[str, Any], grid: tuple[int, int], final_norm: bool
) -> FastITPN:
    channels = tuple(build["channels"])
    expected = [
        int(c * r)
        for c, r in zip(channels, [build["bridge_mlp_ratio"]] * 2 + [build["mlp_ratio"]], strict=True)
    ]
    if build["mlp_hidden"] != expected or (build["patch_size"], build["stem_stride"]) != (16, 4):
        raise Unsupported(
            f"patch {build['patch_size']}, stem {build['stem_stride']}, hidden {build['mlp_hidden']}"
        )
    if variant["rel_pos"] != "none":
        raise Unsupported(f"relative positions {variant['rel_pos']}")
    return FastITPN(
        channels,
        tuple(build["depths"]),
        build["num_heads"],
        stage_mlp_ratio=build["bridge_mlp_ratio"],
        mlp_ratio=build["mlp_ratio"],
        layer_scale=0.1 if variant["layer_scale"] else None,
        pos_grid=grid,
        final_norm=final_norm,
        in_channels=build["in_channels"],
        norm_eps=build["norm_eps"],
    )


def build_model(build: dict[str, Any], variant: dict[str, Any], grid: tuple[int, int]) -> Model:
    if build["task"] == "classification":
        pooling = variant["pooling"]
        trunk = build_trunk(build, variant, grid, final_norm=pooling == "norm_then_mean")
        return TrunkClassifier(trunk, build["num_classes"], pooling, build["norm_eps"])
    if build["task"] == "pretrain_fast":
        pyramid = IntegralPyramid(
            tuple(build["channels"]),
            build["fpn_dim"],
            build["fpn_depth"],
            (build["pyramid_mlp_hidden"] + 0.5) / build["fpn_dim"],
            norm_eps=build["norm_eps"],
        )
        return BackboneParts(build_trunk(build, variant, grid, final_norm=True), pyramid)
    raise Unsupported(f"task {build['task']}")


def variant_weights(variant: dict[str, Any], case: dict[str, Any], tensors: Outputs) -> Outputs:
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


def position_table(weights: Outputs, case: dict[str, Any], patch: int) -> tuple[int, int]:
    """Grid of the position table of this case: square if it can be, else that of the image."""
    grid = case["size"][0] // patch, case["size"][1] // patch
    count = weights["pos_embed"].shape[1]
    if grid[0] * grid[1] == count:
        return grid
    side = round(count**0.5)
    return side, side


def run_model(model: Model, image: Tensor) -> Outputs:
    """Forward pass, with every named stage's output as NCHW map or tokens."""
    found: Outputs = {}

    def keep(name: str, as_map: bool = True) -> Callable:
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            found[name] = output.permute(0, 3, 1, 2) if as_map else output

        return hook

    trunk = model.trunk
    watched = {"patch_embed": trunk.patch_embed, "stage1": trunk.stage1[-1], "merge1": trunk.merge1}
    watched |= {"stage2": trunk.stage2[-1], "merge2": trunk.merge2}
    handles = [m.register_forward_hook(keep(n)) for n, m in watched.items()]
    handles.append(trunk.stage3[-1].register_forward_hook(keep("stage3", as_map=False)))
    first = trunk.stage3[0].register_forward_pre_hook(lambda m, args: found.update(stage3_in=args[0]))
    handles.append(first)
    with torch.no_grad():
        if isinstance(model, TrunkClassifier):
            found["pooled"] = model.pool(image)
            found["logits"] = model.head(found["pooled"])
        else:
            maps = model.trunk(image)
            found["stage3_normed"] = maps[2].flatten(1, 2)
            levels = model.pyramid(*maps)
            names = {"p2": "p4", "p3": "p8", "p4": "p16", "p5": "p32_derived", "p6": "p64_derived"}
            found |= {names[k]: v for k, v in levels.items()}
    for handle in handles:
        handle.remove()
    return found


def run_check(check: dict[str, Any], tensors: Outputs) -> Tensor | None:
    """A stored tensor that needs no network, recomputed; None if the operation belongs to another family."""
    source = tensors[check["source"]] if "source" in check else None
    if source is not None and check["op"] == "resize_bicubic_exact":
        side = round(source.shape[1] ** 0.5)
        resized = resample_grid(source.unflatten(1, (side, side)), tuple(check["grid"]))
        return resized.flatten(1, 2).reshape(tensors[check["tensor"]].shape)
    if source is not None and check["op"] == "avg_pool_2x2":
        return nn.functional.avg_pool2d(source, 2)
    return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fixture", type=Path)
    parser.add_argument("--strict", action="store_true", help="outputs that can't be compared fail")
    args = parser.parse_args(arguments)
    sidecar_path = args.fixture.with_suffix(".json")
    for path in (args.fixture, sidecar_path):
        if not path.is_file():
            print(f"{path}: no such file; a fixture is a pair NAME.safetensors, NAME.json")
            return 2
    sidecar, tensors = json.loads(sidecar_path.read_text()), load_file(str(args.fixture))
    try:
        return compare(sidecar, tensors, args.strict)
    except (Unsupported, CheckpointError, KeyError) as error:
        print(f"{args.fixture}: can't be checked: {type(error).__name__}: {error}")
        return 2


def compare(sidecar: dict[str, Any], tensors: Outputs, strict: bool) -> int:
    build, entries = sidecar["build"], sidecar["tensors"]
    compared, failed, uncovered = 0, 0, 0
    other = parity_fastmim if build["family"] in parity_fastmim.FAMILIES else None
    if other is None and build["family"] != "fast_itpn":
        raise Unsupported(f"family {build['family']}")

    def judge(key: str, ours: Tensor | None) -> None:
        nonlocal compared, failed, uncovered
        if ours is None:
            uncovered += 1
            print(f"{key:50} {'not compared':>12}")
            return
        expected, atol = tensors[key], entries[key]["atol"]
        same_shape = ours.shape == expected.shape
        worst = (ours.double() - expected.double()).abs().max().item() if same_shape else float("nan")
        good = worst <= atol
        compared, failed = compared + 1, failed + (not good)
        print(f"{key:50} {worst:12.3e} atol {atol:.1e} {'ok' if good else 'FAILED'}")

    for variant in build["variants"].values():
        for case in variant["cases"]:
            # roles beyond the image (masks, targets) belong to the pre-training model
            covered = not case["inputs"] and other is None
            found: Outputs = other.run_case(build, variant, case, tensors) if other else {}
            if covered:
                weights = variant_weights(variant, case, tensors)
                grid = position_table(weights, case, build["patch_size"])
                model = build_model(build, variant, grid).eval()
                weights["pos_embed"] = weights["pos_embed"].unflatten(1, grid)
                report = load_pretrained(model, weights)
                if report.missing or report.unexpected or report.mismatched:
                    raise CheckpointError(f"the weights do not fit the model\n{report}")
                found = run_model(model, tensors[case["image"]])
            for name in case["outputs"]:
                judge(case["prefix"] + name, found.get(name))
    for check in build["checks"] if "checks" in build else sidecar.get("checks", []):
        judge(check["tensor"], other.run_check(check, tensors, build) if other else run_check(check, tensors))
    print(
        f"{compared} compared, {failed} above tolerance, {uncovered} not compared (they need another model)"
    )
    return int(failed > 0 or compared == 0 or (strict and uncovered > 0))


if __name__ == "__main__":
    torch.manual_seed(0)
    sys.exit(main())
