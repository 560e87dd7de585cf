"""Parameters and FLOPs of mmpretrain's three iTPN recipes, here and as it lists them (docs/pretraining.md).

python tools/pretrain_costs.py                 # print the table
python tools/pretrain_costs.py --docs docs     # write it into docs/pretraining.md, between its marks
"""

import argparse
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn

from itpn_d2.engine import load_config
from pages import rewrite_section

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "Pretrain" / "mmpretrain"


@dataclass(frozen=True)
class Listed:
    """What mmpretrain's configs/itpn/README.md says: millions of parameters, 1e9 FLOPs."""

    config: str
    parameters: float
    flops: float


LISTED = (
    Listed("clip_distillation_itpn_base_8xb256_800e", 233.00, 18.47),
    Listed("pixel_mim_itpn_base_8xb512_800e", 103.00, 18.47),
    Listed("pixel_mim_itpn_large_8xb512_800e", 314.00, 63.98),
)


@dataclass(frozen=True)
class Counted:
    """Of a recipe here.

    Attributes:
        student: parameters of trunk, pyramid, decoder and heads.
        table: values of the decoder's fixed positions, a parameter without gradient there, a buffer here.
        teacher: parameters of CLIP's image tower and its projection.
        text: those of CLIP's text tower, which is built there and not here.
        trunk: multiply-accumulates of the trunk for one image without a mask.
        step: those of the student's masked forward pass.
    """

    student: int
    table: int
    teacher: int
    text: int
    trunk: int
    step: int

    @property
    def as_there(self) -> int:
        return self.student + self.table + self.teacher + self.text


def clip_text_parameters(width: int = 512, layers: int = 12, words: int = 49408, length: int = 77) -> int:
    """Of the text tower of CLIP-B, its projection and the temperature (CLIP, 2021, table 19)."""
    attention = 4 * width * width + 4 * width
    mlp = 8 * width * width + 5 * width
    blocks = layers * (attention + mlp + 4 * width)
    return blocks + (words + length) * width + 2 * width + width * width + 1


def _attention_flops(inputs: list[Any], outputs: list[Any]) -> int:
    query, key = inputs[0].type().sizes(), inputs[1].type().sizes()
    return 2 * math.prod(query) * key[-2]


def flops(module: nn.Module, image: Tensor) -> int:
    """As fvcore counts, multiply-accumulates and norms, with fused attention counted too."""
    counter = FlopCountAnalysis(module.eval(), image)
    counter.set_op_handle("aten::scaled_dot_product_attention", _attention_flops)
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return int(counter.total())


class _Student(nn.Module):
    """A method without its teacher and its losses, for a fixed mask."""

    def __init__(self, method: nn.Module, masked: int):
        super().__init__()
        self.method, self.masked = method, masked

    def forward(self, image: Tensor) -> Any:
        order = torch.arange(image.shape[-1] // 16 * (image.shape[-2] // 16))[None]
        if hasattr(self.method, "fill"):  # pixels: masked patches are dropped
            return self.method.predict_tokens(image, order[:, self.masked :])  # type: ignore[operator]
        return self.method.predict_tokens(image, order < self.masked)  # type: ignore[operator]


def count(config: str) -> Counted:
    """Build the recipe with random weights, and count."""
    cfg = load_config(str(CONFIGS / f"{config}.py"))
    if "teacher" in cfg.model:
        cfg.model.teacher.random = True
    cfg.model.backbone.pos_resample = "size"  # a table of its own size is counted alike, and can be traced
    torch.manual_seed(0)
    method: Any = instantiate(cfg.model)
    teacher = getattr(method, "teacher", None)
    tower = sum(p.numel() for p in teacher.parameters()) if teacher is not None else 0
    everything = sum(p.numel() for p in method.parameters())
    decoder = getattr(method, "decoder", None)
    size = 16 * cfg.model.backbone.pos_grid[0]
    image = torch.zeros(1, 3, size, size)
    cells = (size // 16) ** 2
    ratio = cfg.model.masking.get("ratio")
    masked = cfg.model.masking.num_masked if ratio is None else cells - int(cells * (1 - ratio))
    with torch.no_grad():
        return Counted(
            student=everything - tower,
            table=decoder.positions.numel() if decoder is not None else 0,
            teacher=tower + (teacher.projection.numel() if teacher is not None else 0),
            text=clip_text_parameters() if teacher is not None else 0,
            trunk=flops(method.backbone.trunk, image),
            step=flops(_Student(method, masked), image),
        )


def table() -> str:
    """The rows of docs/pretraining.md."""
    head = [
        "`Pretrain/mmpretrain/`",
        "M parameters there",
        "student here",
        "and what is counted there",
        "sum",
        "GFLOPs there",
        "trunk here",
        "masked step here",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for listed in LISTED:
        found = count(listed.config)
        parts = {"decoder's positions": found.table, "CLIP's images": found.teacher, "its text": found.text}
        others = " + ".join(f"{value / 1e6:.2f} ({name})" for name, value in parts.items() if value)
        cells = [
            f"`{listed.config}`",
            f"{listed.parameters:.2f}",
            f"{found.student / 1e6:.2f}",
            others,
            f"{found.as_there / 1e6:.2f}",
            f"{listed.flops:.2f}",
            f"{found.trunk / 1e9:.2f}",
            f"{found.step / 1e9:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--docs", type=Path, metavar="FOLDER", help="documentation folder with pretraining.md"
    )
    docs = parser.parse_args(arguments).docs
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    if docs is None:
        print(table())
    else:
        rewrite_section(docs / "pretraining.md", "mmpretrain", table())


if __name__ == "__main__":
    main()
