"""From the three pyramid levels to one token per 16x16 patch."""

from typing import Literal

from torch import Tensor, nn

UNITS = (1, 2, 4)  # side of a patch in cells of p4, p3, p2
Form = Literal["cells", "patches"]


class LevelFusion(nn.Module):
    """Three terms ``(B, N, width)``, one per level, whose sum is the fused token.

    Args:
        dim: channels of the pyramid.
        width: channels of a token.
        form: ``patches``: a linear layer over all cells of a patch (Fast-iTPN; a convolution whose kernel is
            its stride). ``cells``: a linear layer of each cell to its share of the token (iTPN v1); ``width``
            is then a multiple of 16.

    Raises:
        ValueError: ``form`` is unknown, or is ``cells`` and ``width`` no multiple of 16.
    """

    def __init__(self, dim: int, width: int, form: Form = "patches", norm_eps: float = 1e-6):
        super().__init__()
        if form not in ("cells", "patches"):
            raise ValueError(f"fusion form {form!r}: choose cells or patches")
        if form == "cells" and width % 16:
            raise ValueError(f"fusion of single cells needs a width that is a multiple of 16, not {width}")
        self.form, self.width = form, width
        self.norms = nn.ModuleList(nn.LayerNorm(dim, eps=norm_eps) for _ in UNITS)
        self.embeds = nn.ModuleList(
            nn.Linear(u * u * dim, width) if form == "patches" else nn.Linear(dim, width // (u * u))
            for u in UNITS
        )

    def forward(self, levels: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """p4, p3, p2 as units ``(B, N, u, u, dim)`` with u = 1, 2, 4."""
        terms = []
        for x, norm, embed in zip(levels, self.norms, self.embeds, strict=True):
            x = norm(x)
            terms.append(embed(x.flatten(2)) if self.form == "patches" else embed(x).flatten(2))
        return terms[0], terms[1], terms[2]
