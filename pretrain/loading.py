"""Checkpoints into a whole pre-training method: backbone, decoder, heads and mask token."""

from typing import Any

from torch import Tensor, nn

from itpn_d2.checkpoint import Checkpointer, CheckpointError, LoadReport, Mapped
from itpn_d2.checkpoint.loading import load_contents

from .key_maps import itpn_heads, knows_heads

State = dict[str, Tensor]


class MethodCheckpointer(Checkpointer):
    """A checkpointer of pre-training: a file of another size or in the layout of a reference fills the
    decoder, the heads and the mask token as well, where the method has them.

    The average, optimizer and schedule of such a file are not taken: a run starts with it.
    """

    def load_foreign(self, content: dict[str, Any], path: str) -> LoadReport:
        """Load what is not a checkpoint of this very method, its heads included.

        Raises:
            CheckpointError: the trunk or a head doesn't fit, or weights are not finite.
        """

        def heads(state: State, mapped: Mapped) -> None:
            restore_heads(self.model, state, mapped)

        return load_contents(self.model, content, path, heads=heads)


def restore_heads(method: nn.Module, state: State, mapped: Mapped) -> None:
    """Move what ``method`` has a place for from ``mapped.ignored`` to ``mapped.state``, under its own names;
    in place.

    Args:
        state: the file, in its own names.

    Raises:
        CheckpointError: a head has a shape that the reference's layout never has.
    """
    own = method.state_dict()
    kind = type(method).__name__
    found: dict[str, tuple[str, Tensor]] = {}
    for key in mapped.ignored:
        if mapped.network == "timm":
            found[key] = key, state[key]
        elif knows_heads(kind):
            try:
                named = itpn_heads(key, state[key], kind)
            except (RuntimeError, IndexError, ValueError) as error:
                shape = tuple(state[key].shape)
                raise CheckpointError(f"{key} has the shape {shape}, which no {kind} has") from error
            if named is not None:
                found[key] = named
    for key, (name, value) in found.items():
        if name in own:
            mapped.ignored.remove(key)
            mapped.state[name] = value.contiguous()
