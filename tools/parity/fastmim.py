"""FastMIM and HOG fixtures for tools/check_parity.py: both functions read everything from the sidecar."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from itpn_d2.errors import CheckpointError
from pretrain.encoders import Encoder, SwinEncoder, ViTEncoder
from pretrain.key_maps import fastmim_to_native
from pretrain.methods import FastMIM
from pretrain.positions import sincos_2d
from pretrain.targets import HOG

FAMILIES = ("hog", "fastmim_vit", "fastmim_swin")

Outputs = dict[str, Tensor]


def build_hog(options: dict[str, Any], normalise: bool = True) -> HOG:
    return HOG(options["bins"], options["cell"], normalise, options["norm_eps"])


def build_encoder(build: dict[str, Any], size: tuple[int, int]) -> Encoder:
    shared: dict[str, Any] = {
        "img_size": size,
        "in_chans": build["in_channels"],
        "patch_size": build["stem_stride"],
        "embed_dim": build["channels"][0],
        "num_heads": build["num_heads"],
        "mlp_ratio": build["mlp_ratio"],
        "norm_eps": build["norm_eps"],
    }
    if build["family"] == "fastmim_vit":
        return ViTEncoder(depth=build["depths"][0], **shared)
    return SwinEncoder(depths=build["depths"], window_size=build["window_size"], **shared)


def build_method(build: dict[str, Any], size: tuple[int, int]) -> FastMIM:
    decoder = build["decoder"]
    return FastMIM(
        build_encoder(build, size),
        build_hog(build["hog"]),
        decoder_dim=decoder["dim"],
        decoder_depth=decoder["depth"],
        decoder_heads=decoder["num_heads"],
        mlp_ratio=decoder["mlp_hidden"] / decoder["dim"],
        norm_eps=decoder["norm_eps"],
        # the stored images are normalised already
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
    ).eval()


def load_weights(method: FastMIM, variant: dict[str, Any], case: dict[str, Any], tensors: Outputs) -> None:
    weights = {k.removeprefix("weights/"): v for k, v in tensors.items() if k.startswith("weights/")}
    weights |= {name: tensors[key] for name, key in case["weights_alt"].items()}
    if variant["drop_prefixes_or_names"] or variant["rename"]:
        raise CheckpointError("FastMIM fixtures with dropped or renamed weights are not known")
    try:
        method.load_state_dict(fastmim_to_native(weights))
    except RuntimeError as error:
        raise CheckpointError(f"the weights do not fit the model: {error}") from error


def run_method(method: FastMIM, image: Tensor, mask: Tensor) -> Outputs:
    """Forward pass with every named output as tokens."""
    found: Outputs = {}

    def keep(name: str) -> Callable:
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            found[name] = output.flatten(1, 2) if output.ndim == 4 else output

        return hook

    network: Any = method.backbone
    watched = {"encoder_out": method.encoder, "decoder_blocks_out": method.decoder_blocks}
    if isinstance(method.encoder, SwinEncoder):
        watched |= {"patch_embed": network.patch_embed}
        watched |= {f"layer{i}_out": layer for i, layer in enumerate(network.layers)}
    handles = [module.register_forward_hook(keep(name)) for name, module in watched.items()]
    if isinstance(method.encoder, ViTEncoder):
        first = network.blocks[0]
        handles.append(first.register_forward_pre_hook(lambda m, args: found.update(tokens_in=args[0])))
    batch = {"image": image, "mask": mask.flatten(1).bool()}
    with torch.no_grad():
        found["loss"] = method(batch)["loss_hog"]
        found["pred"] = method.predict(batch)["prediction"]
    for handle in handles:
        handle.remove()
    return found


def run_case(
    build: dict[str, Any], variant: dict[str, Any], case: dict[str, Any], tensors: Outputs
) -> Outputs:
    """Outputs of one case by the names the sidecar uses."""
    if build["family"] == "hog":
        names = {case["prefix"] + name: name for name in case["outputs"]}
        checks = [c for c in build["checks"] if c["tensor"] in names]
        results = {names[c["tensor"]]: run_check(c, tensors, build) for c in checks}
        return {name: value for name, value in results.items() if value is not None}
    method = build_method(build, tuple(case["size"]))
    load_weights(method, variant, case, tensors)
    return run_method(method, tensors[case["image"]], tensors[case["inputs"]["mask"]])


def run_check(check: dict[str, Any], tensors: Outputs, build: dict[str, Any]) -> Tensor | None:
    """A stored tensor that needs no network, recomputed; None for an unknown operation."""
    if check["op"] == "sincos_2d":
        return sincos_2d(check["dim"], tuple(check["grid"]), int(check["class_row"]))
    if check["op"] == "hog_map":
        return build_hog(build["hog"], check["normalise"])(tensors[check["source"]])
    if check["op"] == "hog_tokens":
        image = tensors[check["source"]]
        return build_hog(build["hog"]).tokens(image, image.shape[-2] // check["grid"][0])
    return None
