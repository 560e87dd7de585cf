"""Hugging Face datasets: their images are stored unchanged in arrow files, so that an address in such a file
(:mod:`.members`) serves as the path of an image, and workers need neither that library nor arrow.

A ``place`` is a folder written by ``save_to_disk``, parquet files (a folder, one file or a pattern), or a
dataset on the hub, ``hf://datasets/OWNER/NAME`` or ``...@REVISION``, optionally followed by ``#`` and the
name of a split. Parquet and the hub's files are written as arrow files into the cache of ``datasets``, once.
No code of a dataset is executed: loading scripts, and formats that may contain pickles, are refused.
"""

import glob
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import DatasetError
from .arrow_set import ArrowSet
from .image_sources import ImageSource, PathTable

_HUB = re.compile(r"hf://datasets/(?P<name>[^/@#*]+(/[^/@#*]+)?)(@(?P<revision>[^#*]+))?(?<!\.tar)")
_FORMATS = ("arrow", "imagefolder", "parquet", "webdataset")
_SAVED, _SPLITS = "state.json", "dataset_dict.json"


def is_arrow(place: str) -> bool:
    """Whether ``place`` is that of a Hugging Face dataset."""
    place, _ = _without_split(place)
    if _HUB.fullmatch(place) or place.endswith(".parquet"):
        return True
    if not place or not os.path.isdir(place):
        return False
    saved = any(os.path.isfile(os.path.join(place, name)) for name in (_SAVED, _SPLITS))
    return saved or bool(_parquet_in(place))


def hf_images(
    place: str, split: str = "", subset: str = "", image: str = "", labelled: bool = False, label: str = ""
) -> ImageSource:
    """The images of a Hugging Face dataset, in the order of its rows.

    Args:
        place: see above.
        split: the split to read, if ``place`` does not name one; "" for a dataset with a single split.
        subset: name of the configuration, for datasets on the hub that have several.
        image, label: names of the columns; "" chooses them by the features of the dataset, or by their usual
            names.
        labelled: read the labels as well. Classes are the names in the features of the dataset, else the
            sorted labels.

    Raises:
        DatasetError: ``datasets`` is not installed, there is no such set, split or column, it can't be read
            without running its code, or an image has no label.
    """
    found = open_arrow(place, split, subset)
    column = found.image_column(image)
    summary = {"kind": "arrow", "root": found.place, "images": len(found)}
    paths = found.pictures(column)
    missing = [i for i in range(len(paths)) if not paths[i]] if isinstance(paths, PathTable) else []
    if missing:
        raise DatasetError(
            f"{found.place}: {len(missing)} of its {len(found)} rows have no image in column {column!r}, "
            f"the first is number {missing[0]}: filter these rows out and save the dataset again"
        )
    if not labelled:
        return ImageSource(paths, "", summary)
    labels, classes = found.labels(label)
    return ImageSource(paths, "", summary, labels, classes)


def open_arrow(place: str, split: str = "", subset: str = "") -> ArrowSet:
    """One split of a dataset; see :func:`hf_images`.

    Raises:
        DatasetError: see there.
    """
    library = _library(place)
    where, said = _without_split(place)
    if said and split and said != split:
        raise DatasetError(
            f"{place}: two splits are given, #{said} in the address and split={split!r}; give only one"
        )
    split = said or split
    try:
        found, split = _opened(library, where, split, subset)
        files = tuple(str(entry["filename"]) for entry in found.cache_files)
        opened = [_mapped(file) for file in files]
    except DatasetError:
        raise
    except Exception as error:  # of the library, of arrow and of the network: anything
        raise DatasetError(f"{place}: {_reason(error)}") from error
    named = f"{where}#{split}" if split else where
    tables, starts = tuple(t for t, _ in opened), tuple(s for _, s in opened)
    result = ArrowSet(named, files, dict(found.features), tables, starts)
    if not len(found):
        raise DatasetError(f"{named}: it has no rows")
    if len(result) != len(found):
        raise DatasetError(
            f"{named}: it selects only some of the rows in its files ({len(found)} of {len(result)}); "
            "load it and save it again with save_to_disk"
        )
    return result


def _library(place: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DatasetError(
            f"{place}: Hugging Face datasets need the library datasets: pip install 'itpn-d2[hf]' ({error})"
        ) from error
    return datasets


def _without_split(place: str) -> tuple[str, str]:
    where, mark, split = place.rpartition("#")
    return (where, split) if mark and not os.path.exists(place) else (place, "")


def _parquet_in(folder: str) -> list[str]:
    return [
        p for inner in ("", "data") for p in glob.glob(os.path.join(glob.escape(folder), inner, "*.parquet"))
    ]


def _opened(library: Any, where: str, split: str, subset: str) -> tuple[Any, str]:
    """The split as a Dataset, and its name."""
    hub = _HUB.fullmatch(where)
    if hub is None and os.path.isfile(os.path.join(where, _SPLITS)):
        names = json.loads((Path(where) / _SPLITS).read_text())["splits"]
        split = _choice(where, split, names)
        return library.load_from_disk(os.path.join(where, split)), split
    if hub is None and os.path.isfile(os.path.join(where, _SAVED)):
        found = library.load_from_disk(where)
        own = str(found.split or "")
        if split and own and split != own:
            raise DatasetError(f"{where}: this is split {own!r}, not {split!r}")
        return found, ""
    options = {} if not subset else {"name": subset}
    if hub is not None:
        builder = library.load_dataset_builder(hub["name"], revision=hub["revision"], **options)
    elif os.path.isdir(where):
        builder = library.load_dataset_builder(os.path.abspath(where), **options)
    else:
        files = sorted(glob.glob(where)) if glob.has_magic(where) else [where]
        if not files or not all(map(os.path.isfile, files)):
            raise DatasetError(
                f"{where}: no such dataset; give a folder written by save_to_disk, parquet files, or "
                "hf://datasets/OWNER/NAME for a dataset on the hub"
            )
        if split:
            raise DatasetError(f"{where}: parquet files have no splits; leave out #{split}")
        builder = library.load_dataset_builder("parquet", data_files={"train": files})
        return _prepared(builder, "train"), ""
    known = getattr(builder.config, "data_files", None) or builder.info.splits or {}
    split = _choice(where, split, list(known))
    return _prepared(builder, split), split


def _prepared(builder: Any, split: str) -> Any:
    module = type(builder).__module__
    if module.rpartition(".")[2] not in _FORMATS or not module.startswith("datasets.packaged_modules."):
        raise DatasetError(
            f"{builder.dataset_name}: its format is {module.rpartition('.')[2]!r}; only datasets in the "
            f"formats {', '.join(_FORMATS)} are read, since these run no code"
        )
    builder.download_and_prepare()
    return builder.as_dataset(split=split)


def _choice(where: str, split: str, names: Sequence[str]) -> str:
    if split in names:
        return split
    if not split and len(names) == 1:
        return names[0]
    said = f"no split {split!r}" if split else "it has several splits"
    example = f"{where}#{names[0] if names else 'train'}"
    raise DatasetError(f"{where}: {said}; there are {', '.join(map(str, names))}: write {example}")


def _mapped(file: str) -> tuple[Any, int]:
    """The memory-mapped table of a file, and the address of the file in memory."""
    import pyarrow

    whole = pyarrow.memory_map(file).read_buffer()
    try:
        reader = pyarrow.ipc.open_stream(whole)
    except pyarrow.ArrowInvalid:
        reader = pyarrow.ipc.open_file(whole)
    return reader.read_all(), int(whole.address)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if "scripts are no longer supported" in text:
        return (
            f"{text}. The code of a dataset is never run: convert it to parquet, or use the hub's conversion "
            f"(@refs/convert/parquet)"
        )
    return f"it can't be read ({type(error).__name__}: {text[:300]})"
