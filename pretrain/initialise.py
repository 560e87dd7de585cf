"""Where the weights of Fast-iTPN pre-training start (TPAMI'24, the reference's CLIP_as_supervision)."""

import math
from collections.abc import Iterator

import torch
from torch import nn

from itpn_d2.backbone import FastITPN, IntegralBackbone
from itpn_d2.layers import Attention, Mlp, SwiGLU


def fast_itpn_start(backbone: IntegralBackbone) -> None:
    """Fill all weights of a Fast-iTPN trunk and its pyramid anew, in place; meta tensors have none to fill.

    - Linear layers that stand for convolutions (stages 1-2, merges, pyramid): PyTorch's default, biases
      included; the kernel of the patch embedding: Xavier-uniform.
    - Stage 3: Xavier-normal, the parts of the fused qkv each as a layer of its own, and zero biases.
    - Position table: normal with std .02, cut at one std.
    - Norms 1 and 0. Layer scale keeps its value, which is an argument of the trunk.
    - Last, what :func:`_rescaled` names is multiplied by sqrt(ln(2 * blocks of stage 3)), the gain that goes
      with norms inside the branches (sub-LN: Foundation Transformers, 2022).

    Raises:
        TypeError: the trunk is not a :class:`~itpn_d2.backbone.FastITPN`.
    """
    trunk, pyramid = backbone.trunk, backbone.pyramid
    if not isinstance(trunk, FastITPN):
        raise TypeError(f"this start is defined for a FastITPN trunk, not {type(trunk).__name__}")
    for layer in backbone.modules():
        if isinstance(layer, (nn.Linear, nn.LayerNorm)):
            layer.reset_parameters()
    pyramid.reset_parameters()  # transposed convolutions count their fan-in differently from linear layers
    nn.init.xavier_uniform_(trunk.patch_embed.proj.weight)
    cut_normal(trunk.pos_embed)
    for layer in trunk.stage3.modules():
        if isinstance(layer, Attention):
            for part in layer.qkv.weight.detach().chunk(3):
                nn.init.xavier_normal_(part)
            nn.init.zeros_(layer.q_bias)
            nn.init.zeros_(layer.v_bias)
            xavier_normal_linear(layer.proj)
        elif isinstance(layer, SwiGLU):
            for linear in (layer.w1, layer.w2, layer.w3):
                xavier_normal_linear(linear)
    gain = math.sqrt(math.log(2 * len(trunk.stage3)))
    with torch.no_grad():
        for tensor in _rescaled(backbone):
            tensor.mul_(gain)


def xavier_normal_linear(layer: nn.Linear) -> None:
    """Xavier-normal weight and zero bias, in place."""
    nn.init.xavier_normal_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def cut_normal(tensor: torch.Tensor, std: float = 0.02) -> None:
    """Normal numbers of which those beyond one std are redrawn, in place: .54 std remains of it.

    ``tensor`` is of any shape.
    """
    nn.init.trunc_normal_(tensor, std=std, a=-std, b=std)


def _rescaled(backbone: IntegralBackbone) -> Iterator[torch.Tensor]:
    """Weights and biases of every MLP (the pyramid's, too, though they have no inner norm) and of attention's
    values and output; queries and keys are not among them."""
    for layer in backbone.modules():
        if isinstance(layer, Attention):
            yield layer.qkv.weight.chunk(3)[2]
            yield layer.v_bias
            yield from layer.proj.parameters()
        elif isinstance(layer, Mlp):
            yield from (*layer.fc1.parameters(), *layer.fc2.parameters())
        elif isinstance(layer, SwiGLU):
            for linear in (layer.w1, layer.w2, layer.w3):
                yield from linear.parameters()
