"""Weights in the package: small models of this project that need no network.

A folder of ``weights/`` each, as :func:`itpn_d2.model_zoo.save_pretrained` writes them: the weights, a
description of their model, and a card that states their training data, licence and purpose.
"""

from pathlib import Path

from .errors import ZooError

PREFIX = "package://"
PRETRAINED = ("fast_itpn_nano",)  # variants whose pre-training, with its pyramid, is here
DETECTOR = "cell_detector"
_FOLDER = Path(__file__).resolve().parent / "weights"


def boxed_folder(address: str) -> Path:
    """The folder that ``package://NAME`` stands for.

    Raises:
        ZooError: the package has no weights of that name, or the installation is incomplete.
    """
    name = address.removeprefix(PREFIX)
    known = (*PRETRAINED, DETECTOR)
    if name not in known:
        raise ZooError(f"{address}: not in the package, which holds {', '.join(PREFIX + n for n in known)}")
    found = _FOLDER / name
    if not found.is_dir():
        raise ZooError(f"{found}: missing, though it is a part of itpn_d2; install itpn_d2 again")
    return found


def boxed_weights(address: str) -> Path:
    """The weights in the folder that ``package://NAME`` stands for.

    Raises:
        ZooError: as of :func:`boxed_folder`.
    """
    return boxed_folder(address) / "model.safetensors"
