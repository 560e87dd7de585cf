"""What the backbone benchmark compares: our trunk and pyramid in several ways, and networks of timm."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from unittest.mock import patch

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.cases import INPUTS, Setting, step_of, total
from itpn_d2 import create_model
from itpn_d2.engine.flops import flop_counter
from itpn_d2.engine.timing import Step
from itpn_d2.seed import seed_step

# short names of the peers: the variant of timm whose sizes follow the image
PEERS = {
    "ViT-B/16": "vit_base_patch16_224",
    "SAM ViT-B": "samvit_base_patch16",
    "Swin-B": "swin_base_patch4_window7_224",
    "Swin-T": "swin_tiny_patch4_window7_224",
    "Hiera-B": "hiera_base_224",
    "ConvNeXt-B": "convnext_base",
}
ACCELERATED = ("gathering", "migration", "both")


class Size(NamedTuple):
    """Height and width of an image, in pixels."""

    height: int
    width: int

    @staticmethod
    def parse(text: str) -> "Size":
        """``224`` or ``800x1333``.

        Raises:
            ValueError: neither.
        """
        sides = [int(side) for side in text.split("x")]
        if len(sides) > 2 or min(sides) < 1:
            raise ValueError(f"size {text}: write 224 or 800x1333")
        return Size(sides[0], sides[-1])

    def __str__(self) -> str:
        return str(self.height) if self.height == self.width else f"{self.height}x{self.width}"

    @property
    def padded(self) -> "Size":
        """The next size that every network here can take, as a detector would pad it."""
        return Size(*(-(-side // 32) * 32 for side in self))

    @property
    def pixels(self) -> int:
        return self.height * self.width


@dataclass(frozen=True)
class BackboneSetting(Setting):
    """As :class:`~benchmarks.cases.Setting`, of images of several sizes.

    Attributes:
        growth: the sizes by which the growth of cost with resolution is measured.
        window, tokens: of token gathering.
        keep: ratio of each of the three drops of token migration.
        kept_memory: on the CPU, freed memory stays with the process, as in ``train_net.py``.
    """

    batch: int = 1
    sizes: tuple[Size, ...] = (Size(224, 224), Size(512, 512), Size(800, 1333), Size(1024, 1024))
    growth: tuple[Size, ...] = (Size(512, 512), Size(1024, 1024), Size(2048, 2048))
    window: int = 16
    tokens: int = 4
    keep: float = 0.7
    kept_memory: bool = False

    def acceleration(self, way: str) -> dict[str, Any]:
        """Arguments of the trunk for dense, gathering, migration or both."""
        options: dict[str, Any] = {
            "gathering": {"window": self.window, "tokens": self.tokens},
            "migration": {"keep": self.keep},
        }
        return {name: value for name, value in options.items() if way in (name, "both")}


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        model: ``dense``, one of :data:`ACCELERATED`, or a name in :data:`PEERS`.
        explicit: attention by an N x N matrix in float32, as the reference implementation has it.
        compiled: through ``torch.compile`` as one graph.
        trunk: without the pyramid, for comparison with networks that have none.
        checkpointing: what is computed again in the backward pass, as the backbone's argument.
    """

    model: str = "dense"
    explicit: bool = False
    compiled: bool = False
    trunk: bool = False
    checkpointing: str = "none"


def explicit_product(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """``softmax(q k^T / sqrt(d)) v`` with the matrix in float32, in memory."""
    with torch.autocast(q.device.type, enabled=False):
        logits = q.float() * q.shape[-1] ** -0.5 @ k.float().transpose(-2, -1)
        if attn_mask is not None:
            logits = logits.masked_fill(~attn_mask, -torch.inf)
        return logits.softmax(-1).to(v.dtype) @ v


@contextmanager
def explicit_attention() -> Iterator[None]:
    """Within it, all attention is :func:`explicit_product`."""
    fused = patch.object(F, "scaled_dot_product_attention", explicit_product)
    with fused, patch("itpn_d2.layers.attention_products.products_are_faster", return_value=False):
        yield


class Features(nn.Module):
    """A timm network without its head."""

    def __init__(self, name: str, size: Size):
        super().__init__()
        options = {} if name.startswith("convnext") else {"img_size": tuple(size.padded)}
        self.network = timm.create_model(name, num_classes=0, **options)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self.network.forward_features(image),)


class Levels(nn.Module):
    """Our trunk with its pyramid, or without it, as a tuple of maps."""

    def __init__(self, side: Side, setting: BackboneSetting):
        super().__init__()
        # nothing is padded: the search for padding would be all that is not the network
        acceleration = setting.acceleration(side.model)
        model = create_model(
            setting.variant,
            pyramid=True,
            mask_padding=False,
            checkpointing=side.checkpointing,
            **acceleration,
        )
        self.network: nn.Module = model.get_submodule("trunk") if side.trunk else model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        found = self.network(image)
        return tuple(found.values()) if isinstance(found, dict) else found


def build(side: Side, size: Size, setting: BackboneSetting) -> nn.Module:
    """The network, with random weights; its result is a tuple of tensors."""
    seed_step(0)
    return Features(PEERS[side.model], size) if side.model in PEERS else Levels(side, setting)


def inputs(size: Size, setting: BackboneSetting) -> list[Tensor]:
    """:data:`INPUTS` batches of noise, ``(B, 3, *size.padded)``."""
    generator = torch.Generator().manual_seed(0)
    shape = (setting.batch, 3, *size.padded)
    device, _ = setting.place()
    return [torch.randn(shape, generator=generator).to(device) for _ in range(INPUTS)]


def step_for(side: Side, size: Size, training: bool, setting: BackboneSetting) -> Step:
    """Forward with weights and images in the setting's type, without gradients; or, for training, forward
    under autocast and backward. Rounds take the inputs in turn."""
    device, dtype = setting.place()
    model = build(side, size, setting).to(device).train(training)
    images = inputs(size, setting)
    if not training:
        model, images = model.to(dtype), [image.to(dtype) for image in images]
    run = torch.compile(model, backend=setting.backend, fullgraph=True) if side.compiled else model

    def forward(number: int) -> None:
        with torch.no_grad():
            run(images[number % INPUTS])

    step = step_of(model, lambda number: total(run(images[number])), setting) if training else forward
    if not side.explicit:
        return step

    def explicit(number: int) -> None:
        with explicit_attention():
            step(number)

    return explicit


def count_macs(side: Side, size: Size, setting: BackboneSetting) -> int:
    """Multiply-accumulates of one image in products, convolutions and attention, counted by torch without
    computing."""
    with torch.device("meta"), torch.no_grad(), flop_counter() as counter:
        build(side, size, setting).eval()(torch.zeros(1, 3, *size.padded))
    return counter.get_total_flops() // 2
