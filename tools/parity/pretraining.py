"""Pre-training fixtures of both trunks for tools/check_parity.py, masks and targets as stored."""

from typing import Any

import torch
from torch import Tensor

from itpn_d2.backbone import IntegralBackbone
from itpn_d2.errors import CheckpointError
from itpn_d2.layers.units import units_to_map
from parity import backbones
from parity.backbones import Block, Outputs
from pretrain.encoders import visible_patches
from pretrain.key_maps import itpn_to_native
from pretrain.methods import CLIPDistillation, FeatureDistillation, PixelMIM
from pretrain.positions import sincos_2d

Method = PixelMIM | FeatureDistillation | CLIPDistillation
TASKS: dict[str, type] = {
    "pretrain_pixel": PixelMIM,
    "pretrain_fast": FeatureDistillation,
    "pretrain_clip": CLIPDistillation,
}


def build_method(build: Block, variant: Block, grid: tuple[int, int]) -> Method:
    backbone = IntegralBackbone(backbones.build_trunk(build, variant, grid), backbones.build_pyramid(build))
    # the stored images are normalised already
    shared: dict[str, Any] = {"pixel_mean": [0.0] * 3, "pixel_std": [1.0] * 3, "norm_eps": build["norm_eps"]}
    if build["task"] == "pretrain_fast":
        return FeatureDistillation(backbone, teacher_dim=build["teacher_dim"], **shared)
    if build["task"] == "pretrain_clip":
        aux = build["aux"]
        return CLIPDistillation(
            backbone,
            teacher_dim=build["teacher_dim"],
            aux_after=aux["after_block"] + 1,
            aux_depth=aux["depth"],
            aux_norm_eps=aux["norm_eps"],
            **shared,
        )
    decoder = build["decoder"]
    return PixelMIM(
        backbone,
        decoder_dim=decoder["dim"],
        decoder_depth=decoder["depth"],
        decoder_heads=decoder["num_heads"],
        **shared,
    )


def load(method: Method, weights: Outputs) -> None:
    state = itpn_to_native(weights, type(method).__name__)
    fixed = weights.get("decoder_pos_embed")
    if fixed is not None and isinstance(method, PixelMIM):
        method.decoder.positions = fixed  # fixed in the method, stored in the file
    left = set(weights) - {"decoder_pos_embed", "relative_position_index"}
    if len(state) < len(left) - 2 * sum("q_proj.weight" in k for k in left):
        raise CheckpointError(f"some weights have no place: {sorted(left)[:5]} ...")
    method.load_state_dict(state)


def run_case(build: Block, variant: Block, case: Block, tensors: Outputs) -> Outputs:
    """Outputs of one case; a case without a mask is a backbone's."""
    if "mask" not in case["inputs"]:
        return backbones.run_case(build, variant, case, tensors)
    weights = backbones.variant_weights(variant, case, tensors)
    method = build_method(build, variant, backbones.shape_positions(build, case, weights)).eval()
    load(method, weights)
    given = {role: tensors[key] for role, key in case["inputs"].items()}
    image, mask = tensors[case["image"]], given["mask"].bool()
    batch = {"image": image, "mask": mask}
    found: Outputs = {}
    units = build["family"] == "itpn"
    grid = (case["size"][0] // 16, case["size"][1] // 16)
    handles = backbones.watch(method.backbone.trunk, found, True)
    handles += watch_heads(method, found)
    with torch.no_grad():
        if isinstance(method, PixelMIM):
            run_pixels(method, batch, given, found, grid)
        elif isinstance(method, FeatureDistillation):
            # the target is stored for the masked tokens only
            target = image.new_zeros(*mask.shape, build["teacher_dim"])
            target[mask] = given["target"]
            found["loss"] = method({**batch, "target": target})["loss_features"]
            found["lm_head_all_tokens"] = method.decode(method.encode(image, mask))
            found["pred_masked"] = found["lm_head_all_tokens"][mask]
            found["stage3_normed"] = method.backbone.trunk.norm(found["stage3"])
        else:
            losses = method({**batch, "target": given["target"]})
            found["loss_main"], found["loss_aux"] = losses["loss_features"], losses["loss_aux"]
            found["loss"] = sum(losses.values())
            found["pred_main"], aux = method.predict_tokens(image, mask)
            assert aux is not None  # the reference has both heads
            found["pred_aux"] = aux
    for handle in handles:
        handle.remove()
    if not units:
        found = {k: as_map(v, grid) if v.ndim == 5 else v for k, v in found.items()}
    return found


def run_pixels(
    method: PixelMIM, batch: Outputs, given: Outputs, found: Outputs, grid: tuple[int, int]
) -> None:
    """The stored intermediates have the patches in the order in which they were drawn."""
    found["loss"] = method(batch)["loss_pixels"]
    visible = visible_patches(batch["mask"])
    if not torch.equal(visible, given["ids_keep"].sort(1).values):
        raise CheckpointError("the stored mask and the stored kept patches disagree")
    found["pred"] = method.predict_tokens(batch["image"], given["ids_keep"])
    found["target"] = method.target.tokens(batch["image"], 16)
    found["pos_embed_used"] = method.backbone.trunk.positions(grid).flatten(1, 2)
    # the reference embeds all patches before it drops some
    found["patch_embed"] = backbones.map_to_units(method.backbone.trunk.patch_embed(batch["image"]), 4)


def watch_heads(method: Method, found: Outputs) -> list[Any]:
    """Keep what the pyramid and the heads hand on."""

    def levels(module: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        for stride, level, term in zip((16, 8, 4), inputs[0], output, strict=True):
            found[f"p{stride}_units"] = found[f"p{stride}"] = level
            found[f"decoder_term_{stride}"] = term
        found["decoder_sum"] = output[0] + output[1] + output[2]

    handles = [method.fusion.register_forward_hook(levels)]
    if isinstance(method, PixelMIM):
        blocks = method.decoder.blocks
        handles += [
            blocks[0].register_forward_pre_hook(lambda m, args: found.update(decoder_in=args[0])),
            blocks[-1].register_forward_hook(lambda m, args, out: found.update(decoder_blocks_out=out)),
        ]
    elif isinstance(method, CLIPDistillation):
        blocks = method.aux_blocks
        handles += [
            blocks[0].register_forward_pre_hook(lambda m, args: found.update(aux_in=args[0])),
            blocks[-1].register_forward_hook(lambda m, args, out: found.update(aux_blocks_out=out)),
        ]
    else:
        head, first = method.head, method.backbone.trunk.stage1[0]
        # the stored patch embedding is the masked one
        handles.append(first.register_forward_pre_hook(lambda m, args: found.update(patch_embed=args[0])))
        handles.append(head.register_forward_pre_hook(lambda m, args: found.update(decoder_normed=args[0])))
    return handles


def as_map(units: Tensor, grid: tuple[int, int]) -> Tensor:
    return units_to_map(units, grid).permute(0, 3, 1, 2)


def run_check(check: Block, tensors: Outputs, build: Block) -> Tensor | None:
    """A stored tensor that needs no network, recomputed."""
    if check["op"] == "sincos_2d":
        return sincos_2d(check["dim"], tuple(check["grid"]), int(check["class_row"]))
    return backbones.run_check(check, tensors, build)
