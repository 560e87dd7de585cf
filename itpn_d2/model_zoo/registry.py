"""Entries by name."""

import difflib
from collections.abc import Iterable

from ..backbone import VARIANTS
from ..errors import UnknownModelError, ZooError
from .entries import ENTRIES, PRETRAINED, WEIGHTS
from .entry import TASKS, Entry, Task, Weights


def list_entries(task: Task | None = None, pretrained: bool | None = None) -> list[str]:
    """Names of the entries, sorted.

    Args:
        task: only those of this task.
        pretrained: only those whose weights somebody has published (False: has not): the trained model or, of
            a pre-training config, the pre-trained backbone.

    Raises:
        ZooError: no such task.
    """
    if task is not None and task not in TASKS:
        raise ZooError(f"task {task!r}: choose {', '.join(TASKS)}")
    return sorted(
        name
        for name, entry in ENTRIES.items()
        if task in (None, entry.task) and pretrained in (None, entry.weights is not None)
    )


def get_entry(name: str) -> Entry:
    """The entry ``name``: its config's path below ``configs/``, with or without ``configs/`` before and
    ``.py`` behind, or only the last part of it where that is unique.

    Raises:
        UnknownModelError: no such entry, or several.
    """
    name = name.removeprefix("configs/").removesuffix(".py")
    if name in ENTRIES:
        return ENTRIES[name]
    found = [full for full in ENTRIES if full.rsplit("/", 1)[-1] == name]
    if len(found) == 1:
        return ENTRIES[found[0]]
    if found:
        raise UnknownModelError(f"{name!r} is the name of several models: choose one of {', '.join(found)}")
    short = {full.rsplit("/", 1)[-1]: full for full in ENTRIES}
    raise UnknownModelError(f"no model {name!r} in the zoo; {_near(name, [*ENTRIES, *short])}")


def find_weights(name: str) -> Weights:
    """Published weights by the name of their file, of the variant they are the pre-training of, or of the
    entry they belong to.

    Raises:
        UnknownModelError: no such file, or a variant or entry without weights.
    """
    if name in WEIGHTS:
        return WEIGHTS[name]
    if name in VARIANTS:
        return pretrained_weights(name)
    try:
        entry = get_entry(name)
    except ZooError as error:
        raise UnknownModelError(
            f"itpn://{name}: neither a file nor a model; {_near(name, WEIGHTS)}"
        ) from error
    return trained_weights(entry)


def pretrained_weights(variant: str) -> Weights:
    """The published pre-training of a variant (of iTPN-B and -L, which have two, that of pixels).

    Raises:
        UnknownModelError: there is no such variant, or none is published; says how to get one.
    """
    if variant not in VARIANTS:
        raise UnknownModelError(f"no variant {variant!r}; {_near(variant, VARIANTS)}")
    if variant not in PRETRAINED:
        raise UnknownModelError(
            f"{variant}: no published pre-trained weights. Pre-train it (python -m pretrain --config-file "
            f"configs/Pretrain/pixel_mim_{variant}.py), or give a file of your own as weights"
        )
    return PRETRAINED[variant]


def trained_weights(entry: Entry) -> Weights:
    """The weights of an entry.

    Raises:
        UnknownModelError: none are published; says how to get some.
    """
    if entry.weights is not None:
        return entry.weights
    command = f"python train_net.py --config-file configs/{entry.config}"
    if entry.task == "pretraining":
        command = f"python -m pretrain --config-file configs/{entry.config}"
    elif entry.start is not None:
        command += f" train.init_checkpoint=itpn://{entry.start.file}"
    raise UnknownModelError(
        f"{entry.name}: no published weights of the trained model. Train it ({command}), or give a file "
        "of your own as weights"
    )


def _near(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), 3, cutoff=0.5)
    return f"did you mean {' or '.join(found)}?" if found else "python -m itpn_d2.model_zoo list shows all"
