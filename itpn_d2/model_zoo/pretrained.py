"""Models as folders, and as repositories of the Hugging Face hub: ``model.safetensors``, ``config.json`` (see
:mod:`.description`) and ``README.md``."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import Tensor, nn

from ..backbone import IntegralBackbone, Trunk, TrunkClassifier
from ..boxed import PREFIX, boxed_folder
from ..checkpoint import Checkpointer, CheckpointError, Classes, load_state_file
from ..checkpoint.finite import check_finite
from ..checkpoint.loading import load_contents
from ..checkpoint.shared_links import hub_repository
from ..checkpoint.write import save_safetensors
from ..errors import ZooError
from ..files import make_folder, write_text, written_whole
from ..lazy.build import build
from .card import Card, write_card
from .description import CONFIG, WEIGHTS, Description, Kind, built, compare_shapes, read_description, refused
from .detector_description import describe_detector, detector_config
from .hub import hub_file

README = "README.md"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_KINDS: tuple[tuple[type[nn.Module], Kind], ...] = (
    (IntegralBackbone, "backbone"),
    (TrunkClassifier, "classifier"),
    (Trunk, "trunk"),
)


def save_pretrained(
    model: nn.Module,
    folder: str | Path,
    card: Card | None = None,
    dtype: torch.dtype | None = None,
    address: str | None = None,
) -> Path:
    """Write a trunk, a backbone or a classifier that :func:`itpn_d2.create_model` has built into a folder.

    Args:
        card: what people should know of it.
        dtype: of the weights in the file; None: as they are.
        address: by which it will be loaded, for its card; None: the folder.

    Raises:
        ZooError: it was built in another way, or changed since, so that no arguments describe it; or weights
            are not finite.
    """
    found = _describe(model)
    start = "trunk." if found.kind == "trunk" else ""  # as in every other file
    state = {start + key: value for key, value in model.state_dict().items()}
    name, classes = str(found.arguments["name"]), found.arguments.get("num_classes")
    return _write(found, state, folder, card or Card(), name, classes, dtype, address)


def save_detector(
    model: nn.Module,
    cfg: DictConfig,
    config: str | Path | None,
    folder: str | Path,
    card: Card | None = None,
    dtype: torch.dtype | None = None,
    address: str | None = None,
) -> Path:
    """Write a detector, segmentor or classifier of a config into a folder.

    Args:
        cfg: with its classes.
        config: which config of this project it is, perhaps with other values.
        card, dtype, address: see :func:`save_pretrained`.

    Raises:
        ZooError: it is none of this project's configs, or no values describe how it differs; or weights are
            not finite.
    """
    found = describe_detector(cfg, config)
    classes = found.dataset.get("num_classes")
    state = dict(model.state_dict())
    return _write(found, state, folder, card or Card(), found.config, classes, dtype, address)


def from_pretrained(
    source: str | Path, device: torch.device | str | None = None, **overrides: Any
) -> nn.Module:
    """The trunk, backbone or classifier of a folder or of a repository of the hub, with its weights.

    Args:
        source: a folder; ``org/name`` or ``org/name@revision`` of the hub.
        device: None: the CPU.
        overrides: arguments of :func:`itpn_d2.create_model` instead of the described ones.

    Raises:
        ZooError: nothing there; it is a detector; or the description is not such, or not of these weights.
        CheckpointError: the weights can't be read.
    """
    config, weights, name = _files(source)
    found = read_description(config, name)
    if found.kind == "detector":
        raise ZooError(f"{source}: it is a detector: load it with Predictor.from_pretrained({str(source)!r})")
    start = "trunk." if found.kind == "trunk" else ""
    compare_shapes(lambda: built(found), weights, name, start)
    model = built(found, **overrides)
    load_contents(model, load_state_file(weights), str(weights))
    return model if device is None else model.to(device)


def load_detector(source: str | Path, device: torch.device) -> tuple[DictConfig, nn.Module, str]:
    """The config, the loaded model of a detector and the config's name, see
    :meth:`itpn_d2.Predictor.from_pretrained`.

    Raises:
        ZooError, CheckpointError: as of :func:`from_pretrained`.
    """
    config, weights, name = _files(source)
    found = read_description(config, name)
    if found.kind != "detector":
        raise ZooError(
            f"{source}: it is a {found.kind}: load it with model_zoo.from_pretrained({str(source)!r})"
        )
    cfg = detector_config(found)

    def make() -> nn.Module:
        with refused(f"{name}: no such detector can be built"):
            return build(cfg.model)

    compare_shapes(make, weights, name)
    model = make()
    classes = Classes(found.dataset.get("class_names"), found.dataset.get("semantic_class_names"))
    Checkpointer(model, classes=classes).load(str(weights), [], complete=True)
    cfg.train.init_checkpoint = str(weights)
    return cfg, model.to(device), found.config


def push_to_hub(
    model: nn.Module,
    repository: str,
    card: Card | None = None,
    dtype: torch.dtype | None = None,
    private: bool = False,
) -> str:
    """:func:`save_pretrained` into a repository of the Hugging Face hub, which is made where there is none.

    The client finds the token of ``hf auth login``, or ``$HF_TOKEN``.

    Returns:
        The address of the repository.

    Raises:
        ZooError: see :func:`save_pretrained` and :func:`upload`.
    """
    check_repository(repository)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder, card, dtype, repository)
        return upload(folder, repository, private)


def check_repository(repository: str) -> None:
    """Raises:
    ZooError: it is not ``org/name``.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise ZooError(f"{repository[:100]!r} is not a repository of the hub: write org/name")


def upload(folder: str | Path, repository: str, private: bool = False) -> str:
    """Send the three files of a folder to the hub.

    Raises:
        ZooError: no such name, no permission, or no network.
    """
    from huggingface_hub import HfApi

    check_repository(repository)
    client = HfApi(library_name="itpn_d2")
    try:
        address = client.create_repo(repository, private=private, exist_ok=True)
        client.upload_folder(
            repo_id=repository, folder_path=str(folder), allow_patterns=[WEIGHTS, CONFIG, README]
        )
    except Exception as error:  # of the client and of its transport: no common base
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ZooError(
            f"{repository}: can't be sent to the hub ({reason}); `hf auth login` stores your token"
        ) from error
    return str(address)


def _files(source: str | Path) -> tuple[Path, Path, str]:
    """``config.json``, the weights, and what errors call the first."""
    folder = boxed_folder(str(source)) if str(source).startswith(PREFIX) else Path(source)
    if folder.is_dir():
        for name in (CONFIG, WEIGHTS):
            if not (folder / name).is_file():
                raise ZooError(f"{folder}: has no {name}, so it was not written by save_pretrained")
        return folder / CONFIG, folder / WEIGHTS, str(folder / CONFIG)
    source = hub_repository(str(source))
    repository, _, revision = source.partition("@")
    if not _REPOSITORY.fullmatch(repository) or "/" in revision:
        raise ZooError(f"{source[:200]!r}: no such folder, and not org/name of the hub")
    start = f"hf://{source}"
    return hub_file(f"{start}/{CONFIG}"), hub_file(f"{start}/{WEIGHTS}"), f"{start}/{CONFIG}"


def _describe(model: nn.Module) -> Description:
    """Raises:
    ZooError: no arguments of ``create_model`` describe the model.
    """
    kind = next((kind for cls, kind in _KINDS if isinstance(model, cls)), None)
    if kind is None:
        raise ZooError(
            f"a {type(model).__name__} is not a trunk, backbone or classifier of this project; for a "
            "detector use Predictor.save_pretrained"
        )
    given = getattr(model, "arguments", None)
    if given is None:
        raise ZooError(f"the {kind} was not built by itpn_d2.create_model, whose arguments describe it")
    found = Description(kind, {key: _plain(v) for key, v in given.items()}, source="the model")
    with torch.device("meta"):
        again = built(found).state_dict()
    own = {key: value.shape for key, value in model.state_dict().items()}
    if {key: value.shape for key, value in again.items()} != own:
        raise ZooError(
            f"the {kind} has been changed since it was built: build it as it is now, and load "
            "the weights into it"
        )
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, DictConfig | ListConfig):
        return OmegaConf.to_container(value, resolve=True)
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _write(
    found: Description,
    state: dict[str, Tensor],
    folder: str | Path,
    card: Card,
    what: str,
    classes: int | None,
    dtype: torch.dtype | None,
    address: str | None,
) -> Path:
    # memory of their own, which tensors of the file have
    kept = {key: value.detach().cpu().clone().contiguous() for key, value in state.items()}
    if dtype is not None:
        kept = {k: v.to(dtype) if v.is_floating_point() else v for k, v in kept.items()}
    try:
        check_finite(kept, state)
    except CheckpointError as error:
        raise ZooError(f"the weights can't be published: {error}") from error
    place = make_folder(folder)
    names = Classes(found.dataset.get("class_names"), found.dataset.get("semantic_class_names"))
    with written_whole(place / WEIGHTS) as partial:
        save_safetensors(kept, partial, names.entry())
    found.write(place)
    # a description that this version could not read again is none
    read_description(place / CONFIG, str(place / CONFIG))
    write_text(place / README, write_card(card, found.kind, what, classes, address or str(folder)))
    return place
