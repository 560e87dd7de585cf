"""The interface of encoders, and the initialisation of their weights."""

from torch import Tensor, nn


class Encoder(nn.Module):
    """What the methods ask of an encoder.

    Attributes:
        backbone: the network that is kept.
        stride: pixels per token.
        width: channels per token.
        num_prefix: leading tokens that stand for no place (class token).
    """

    backbone: nn.Module
    stride: int
    width: int
    num_prefix: int = 0

    def forward(self, image: Tensor) -> Tensor:
        """``(B, 3, H, W)``, normalised, to ``(B, num_prefix + N, width)``, N row-major."""
        raise NotImplementedError

    def set_input_size(self, size: tuple[int, int]) -> list[str]:
        """Make positions, windows and relative biases fit images of ``size`` = (height, width) pixels.

        A state dict holds positions and biases of the size it was saved at: set that size before loading it.

        Returns:
            The names of parameters that are new objects of a new shape: an optimizer must take these instead
            of the old ones, without their moments.
        """
        before = {name: id(p) for name, p in self.named_parameters()}
        self._resize(size)
        return [name for name, p in self.named_parameters() if before.get(name) != id(p)]

    def _resize(self, size: tuple[int, int]) -> None:
        """Does nothing for a network that accepts any size."""


def check_drop(drop_last: int, blocks: int) -> None:
    """ValueError unless some of the blocks remain."""
    if not 0 <= drop_last < blocks:
        raise ValueError(f"drop_last {drop_last}: of the {blocks} blocks, 0 to {blocks - 1} can be left out")


def xavier_linears(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for every linear layer, the start of MAE and FastMIM."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
