"""Checks that the sections of a config agree with each other, although each of them is valid on its own."""

from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import ConfigError


def check_consistency(content: Mapping[str, Any], processes: int) -> None:
    """Check the sections, as plain values with references resolved, against each other.

    Raises:
        ConfigError: with both keys and their values.
    """
    train = content["train"]
    _check_classes(content["model"], content["dataset"])
    _check_channels(content["model"])
    _check_batch(content["dataloader"]["train"], content["train"], processes)
    _check_rate(content["dataloader"]["train"], train)
    _check_sets(content["dataset"])
    _check_view(content["dataloader"]["train"], content["train"])
    compares = train.get("eval_period", 0) > 0  # else nothing is evaluated
    average = train.get("ema", {}).get("enabled")
    if compares and not average and train.get("best_metric", "").startswith("ema/"):
        raise ConfigError(
            f"train.best_metric={train['best_metric']} needs the moving average: set train.ema.enabled=true"
        )
    if train.get("best_metric", "").startswith("val") and not train.get("validation_loss"):
        raise ConfigError(
            f"train.best_metric={train['best_metric']} is measured only with train.validation_loss=true"
        )
    _check_precision(train.get("amp") or {})
    _check_ways(train)
    if train.get("validation_loss") and not content["dataloader"].get("val_loss"):
        raise ConfigError("train.validation_loss=True needs a loader: dataloader.val_loss is null")


def _check_precision(amp: Mapping[str, Any]) -> None:
    enabled, dtype = amp.get("enabled"), amp.get("dtype", "auto")
    if (enabled is True and dtype == "fp32") or (enabled is False and dtype in ("bf16", "fp16")):
        raise ConfigError(
            f"train.amp.enabled={enabled} with train.amp.dtype={dtype}: they contradict each other; leave "
            f"enabled at null, or dtype at auto"
        )


def _check_ways(train: Mapping[str, Any]) -> None:
    accumulate = train.get("accumulate", 1)
    if (train.get("ddp") or {}).get("static_graph") and accumulate > 1:
        raise ConfigError(
            f"train.ddp.static_graph=True with train.accumulate={accumulate}: with a static graph, every "
            "backward pass exchanges gradients; use only one of the two"
        )
    parallel = train.get("parallel", "ddp")
    if parallel != "ddp" and train.get("compile") == "blocks":
        raise ConfigError(
            f"train.parallel={parallel} with train.compile=blocks: blocks that gather their weights can't "
            "be compiled; set train.compile=none, or train.parallel=ddp"
        )
    if parallel == "ddp" and (train.get("checkpointer") or {}).get("sharded"):
        raise ConfigError(
            "train.checkpointer.sharded=True with train.parallel=ddp: without sharding, one process "
            "writes the whole model; set train.parallel=fsdp or hsdp, or leave the key out"
        )
    if parallel != "ddp" and train.get("progressive"):
        raise ConfigError(
            f"train.parallel={parallel} with train.progressive: growing images change parameters that are "
            "already sharded; set train.parallel=ddp"
        )
    if train.get("count_flops") and train.get("compile") == "blocks":
        raise ConfigError(
            "train.count_flops=True with train.compile=blocks: compiled operations can't be counted; "
            "count in a short run with train.compile=none"
        )


def _values(section: Any, wanted: str, key: str) -> Iterator[tuple[str, Any]]:
    """Every value of a key of that name, however deep, with its full key."""
    if isinstance(section, Mapping):
        for name, value in section.items():
            if name == wanted:
                yield f"{key}.{name}", value
            else:
                yield from _values(value, wanted, f"{key}.{name}")
    elif isinstance(section, list):
        for number, value in enumerate(section):
            yield from _values(value, wanted, f"{key}.{number}")


def _check_classes(model: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
    known = {
        key: dataset[key]
        for key in ("num_classes", "num_semantic_classes", "num_keypoints")
        if isinstance(dataset.get(key), int)
    }
    if "num_classes" in known:
        allowed = {known["num_classes"], known.get("num_semantic_classes")}
        for key, value in _values(model, "num_classes", "model"):
            if isinstance(value, int) and value not in allowed:
                raise ConfigError(
                    f"{key}={value}, but dataset.num_classes={known['num_classes']}: "
                    f"leave it at '${{dataset.num_classes}}'"
                )
    for name in ("num_semantic_classes", "num_keypoints"):
        for key, value in _values(model, name, "model"):
            if name in known and isinstance(value, int) and value != known[name]:
                raise ConfigError(f"{key}={value}, but dataset.{name}={known[name]}: leave it at that value")
    for names, number in (("class_names", "num_classes"), ("semantic_class_names", "num_semantic_classes")):
        if dataset.get(names) is not None and number in known and len(dataset[names]) != known[number]:
            raise ConfigError(
                f"dataset.{names} has {len(dataset[names])} names, but dataset.{number}={known[number]}"
            )


def _check_channels(model: Mapping[str, Any]) -> None:
    mean, std = model.get("pixel_mean"), model.get("pixel_std")
    if isinstance(mean, list) and isinstance(std, list) and len(mean) != len(std):
        raise ConfigError(
            f"model.pixel_mean={mean}, model.pixel_std={std}: give both the same number of values, one "
            "per channel"
        )
    network = model.get("backbone") or model.get("network")
    if isinstance(mean, list) and isinstance(network, Mapping) and "name" in network:
        channels = network.get("in_channels", network.get("in_chans", 3))
        if len(mean) != channels:
            raise ConfigError(f"model.pixel_mean={mean}: give one number for each of {channels} channels")


def _check_batch(loader: Mapping[str, Any], train: Mapping[str, Any], processes: int) -> None:
    batch, parts = loader.get("total_batch_size"), int(train.get("accumulate", 1))
    if batch is None or not batch % (parts * processes):
        return
    shares = [f"train.accumulate={parts}"] if parts > 1 else []
    shares += [f"{processes} processes"] if processes > 1 else []
    raise ConfigError(
        f"dataloader.train.total_batch_size={batch} is not divisible by {' times '.join(shares)}: "
        f"choose a multiple of {parts * processes}"
    )


def _check_view(loader: Mapping[str, Any], train: Mapping[str, Any]) -> None:
    """Of a pre-training, whose images come in one size."""
    view, divisor = loader.get("view"), train.get("size_divisor", 16)
    size = view.get("size") if isinstance(view, Mapping) else None
    if isinstance(size, int) and not train.get("progressive") and size % divisor:
        raise ConfigError(
            f"dataloader.train.view.size={size} is not a multiple of train.size_divisor={divisor}, the "
            "pixels of a token or of a block of the mask"
        )


def _check_rate(loader: Mapping[str, Any], train: Mapping[str, Any]) -> None:
    if loader.get("reference_batch") is not None and train.get("base_lr") is not None:
        raise ConfigError(
            f"dataloader.train.reference_batch={loader['reference_batch']} with "
            f"train.base_lr={train['base_lr']}: train.base_lr is a rate for 256 images and is already "
            "scaled; set train.base_lr=null and optimizer.lr, or leave reference_batch at null"
        )


def _check_sets(dataset: Mapping[str, Any]) -> None:
    train, val = dataset.get("train"), dataset.get("val")
    if not (isinstance(train, Mapping) and isinstance(val, Mapping)) or train == val:
        return
    if train.get("name") is not None and train["name"] == val.get("name"):
        raise ConfigError(
            f"dataset.train.name and dataset.val.name are both {train['name']!r}, but the datasets "
            "differ, and the second would replace the first; give them different names"
        )
