"""Trunk with a linear classification head, with the methods that timm's tools call on a model."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from .checkpointing import CheckpointingSpec
from .padding import pad_to_multiple
from .trunk import TOKEN_STRIDE, Trunk

Pooling = Literal["mean_then_norm", "max_then_norm", "norm_then_mean", "mean_then_batch_norm", "none"]
_POOLINGS = get_args(Pooling)
# by timm's names
GLOBAL_POOLS: dict[str, Pooling] = {"avg": "mean_then_norm", "max": "max_then_norm", "": "none"}


def pooling_of(global_pool: str) -> Pooling:
    """The pooling by timm's name.

    Raises:
        ValueError: there is no pooling of that name.
    """
    if global_pool not in GLOBAL_POOLS:
        raise ValueError(f"global_pool {global_pool!r}: choose avg, max, or an empty string for none")
    return GLOBAL_POOLS[global_pool]


def token_grid(size: int | tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of tokens of an image of that height and width."""
    height, width = (size, size) if isinstance(size, int) else size
    return -(-height // TOKEN_STRIDE), -(-width // TOKEN_STRIDE)


class TrunkClassifier(nn.Module):
    """``(B, C, H, W) -> (B, num_classes)`` logits, H and W of any size.

    Args:
        num_classes: 0 for no head: the pooled features.
        pooling: ``mean_then_norm`` is what the published fine-tuning uses (``fc_norm`` on the pooled token);
            ``max_then_norm`` takes the largest value of each channel; ``norm_then_mean`` puts the norm on the
            tokens (``trunk.norm``); ``mean_then_batch_norm`` is for linear probing (MAE: batch norm without
            weights); ``none`` is the head on each token, ``(B, H/16, W/16, num_classes)``.
        head_std: of the head's initial weights. The reference of Fast-iTPN multiplies .02 by .01.
        drop_rate: dropout before the head.
        checkpointing: blocks that are recomputed in the backward pass, see
            :func:`~.checkpointing.set_checkpointing`.

    Raises:
        ValueError: ``pooling`` is none of these.
    """

    output_fmt = "NHWC"  # of forward_features, in timm's words

    def __init__(
        self,
        trunk: Trunk,
        num_classes: int,
        pooling: Pooling = "mean_then_norm",
        norm_eps: float = 1e-6,
        head_std: float = 0.0002,
        drop_rate: float = 0.0,
        checkpointing: CheckpointingSpec = (),
    ):
        super().__init__()
        if pooling not in _POOLINGS:
            raise ValueError(f"pooling {pooling!r}: choose from {', '.join(_POOLINGS)}")
        dim = trunk.channels[-1]
        self.num_features = self.head_hidden_size = dim
        self.in_chans = trunk.patch_embed.proj.in_features // 16  # a cell of 4 x 4 pixels
        self.pooling, self.head_std = pooling, head_std
        self.last_stage = 2  # 0 or 1 after prune_intermediate_layers
        self.feature_info = [
            {"num_chs": channels, "reduction": 4 * 2**i, "module": f"taps.{i}"}
            for i, channels in enumerate(trunk.channels)
        ]
        self.trunk = trunk
        trunk.set_grad_checkpointing(checkpointing)
        # what hooks see the maps at: the trunk runs stages 1 and 2 in stripes, and stage 3 on tokens
        self.taps = nn.ModuleList(nn.Identity() for _ in trunk.channels)
        self.fc_norm: nn.Module = nn.Identity()
        if pooling in ("mean_then_norm", "max_then_norm"):
            self.fc_norm = nn.LayerNorm(dim, eps=norm_eps)
        elif pooling == "mean_then_batch_norm":
            self.fc_norm = nn.BatchNorm1d(dim, eps=norm_eps, affine=False)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = self._new_head(num_classes)

    def _new_head(self, num_classes: int) -> nn.Module:
        self.num_classes = num_classes
        if num_classes == 0:
            return nn.Identity()
        like = self.trunk.pos_embed
        head = nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)
        nn.init.trunc_normal_(head.weight, std=self.head_std)
        nn.init.zeros_(head.bias)
        return head

    @property
    def global_pool(self) -> str:
        """timm's name of the pooling: ``avg``, ``max``, or empty for none."""
        return next((name for name, pooling in GLOBAL_POOLS.items() if pooling == self.pooling), "avg")

    def _maps(self, image: Tensor, last: int) -> tuple[Tensor, ...]:
        """The maps of stages 0 to at least ``last``."""
        image = pad_to_multiple(image, TOKEN_STRIDE)
        trunk = self.trunk
        maps = trunk(image) if last == 2 else trunk.local_stages(trunk.patch_embed(image))[:2]
        return tuple(tap(x) for tap, x in zip(self.taps, maps, strict=False))

    def forward_features(self, image: Tensor) -> Tensor:
        """``(B, C, H, W) -> (B, H/16, W/16, C3)``."""
        return self._maps(image, self.last_stage)[self.last_stage]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """From the result of :meth:`forward_features` to the logits, or to the input of the head.

        ``(B, h, w, C)`` to ``(B, num_classes)``, or to ``(B, C)`` with ``pre_logits``; with
        ``pooling="none"`` the dimensions h and w stay.
        """
        if self.pooling != "none":
            tokens = features.flatten(1, 2)
            features = self.fc_norm(tokens.amax(1) if self.pooling == "max_then_norm" else tokens.mean(1))
        features = self.head_drop(features)
        return features if pre_logits else self.head(features)

    def __prepare_scriptable__(self) -> nn.Module:
        """What ``torch.jit.script`` compiles: the graph of :meth:`forward`, in the mode that the model is
        in."""
        return torch.fx.symbolic_trace(self)

    def pool(self, image: Tensor) -> Tensor:
        """``(B, C, H, W) -> (B, C3)``, the feature before the linear head."""
        return self.forward_head(self.forward_features(image), pre_logits=True)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` to logits ``(B, num_classes)``; without a head, to the pooled features."""
        return self.forward_head(self.forward_features(image))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
        output_dict: bool = False,
    ) -> Any:
        """The maps of stages ``indices`` (0, 1, 2, at strides 4, 8, 16), as timm's models give them.

        Args:
            indices: which of the three; a number n means the last n, None means all.
            norm: apply ``fc_norm``, where it is a layer norm, to the last one.
            stop_early: leave out stage 3 if it is not requested.
            output_fmt: NCHW or NHWC.
            intermediates_only: return the list alone, else (result of :meth:`forward_features`, list).
            output_dict: return these as ``image_intermediates`` and ``image_features`` of a dict.

        Raises:
            ValueError: ``output_fmt`` is neither NCHW nor NHWC.
        """
        if output_fmt not in ("NCHW", "NHWC"):
            raise ValueError(f"output_fmt {output_fmt!r}: choose NCHW or NHWC")
        chosen, last = feature_take_indices(self.last_stage + 1, indices)
        maps = self._maps(x, last if stop_early and intermediates_only else self.last_stage)
        final = maps[-1]
        if norm and len(maps) == 3 and isinstance(self.fc_norm, nn.LayerNorm):
            maps = (*maps[:2], self.fc_norm(final))
        found = [maps[i] if output_fmt == "NHWC" else maps[i].permute(0, 3, 1, 2) for i in chosen]
        if output_dict:
            return {"image_intermediates": found, **({} if intermediates_only else {"image_features": final})}
        return found if intermediates_only else (final, found)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the parts that :meth:`forward_intermediates` does not need for ``indices``; returns the
        indices, counted from 0."""
        chosen, last = feature_take_indices(3, indices)
        trunk = self.trunk
        if last < 2:
            trunk.merge2, trunk.stage3, trunk.norm = nn.Identity(), nn.ModuleList(), nn.Identity()
            trunk.pos_embed.requires_grad_(False)  # no longer used: distributed training would wait for it
        if last < 1:
            trunk.merge1, trunk.stage2 = nn.Identity(), nn.ModuleList()
        self.last_stage = last
        self.num_features = self.head_hidden_size = trunk.channels[last]
        if prune_norm or last < 2:
            self.fc_norm = nn.Identity()
        if prune_head or last < 2:
            self.reset_classifier(0, "")
        return chosen

    def get_classifier(self) -> nn.Module:
        """The linear head; an Identity where there are no classes."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new, freshly initialised head; ``global_pool`` is "avg", "max", "" for no pooling, or None to
        keep the pooling."""
        if global_pool is not None and global_pool != self.global_pool:
            self.pooling = pooling_of(global_pool)
        self.head = self._new_head(num_classes).train(self.training)

    def set_input_size(self, img_size: int | tuple[int, int]) -> None:
        """Store the position table for images of that size. The model accepts any size in any case, since the
        table is resampled in the forward pass, and its results stay the same."""
        table, grid = self.trunk.pos_embed, token_grid(img_size)
        values = self.trunk.positions(grid).detach().clone()
        self.trunk.pos_embed = nn.Parameter(values, requires_grad=table.requires_grad)

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Parameters of more than one dimension that are not decayed."""
        return {f"trunk.{name}" for name in self.trunk.no_weight_decay()}

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass, in all stages."""
        self.trunk.set_grad_checkpointing(enable)

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's layers for layer-wise rates: stem, blocks (merges and the final norm go with the one before
        them), the rest; ``coarse``: stages."""
        if coarse:
            blocks: Any = [(r"^trunk\.(?:stage|merge)(\d)", None)]
        else:
            blocks = [
                (r"^trunk\.stage(\d)\.(\d+)", None),
                (r"^trunk\.merge(\d)", (99999,)),
                (r"^trunk\.norm", (99999,)),
            ]
        return {"stem": r"^trunk\.(?:patch_embed|pos_embed)", "blocks": blocks}
