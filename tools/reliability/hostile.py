"""Pickles and YAML files that would run code or grow beyond all bounds, and addresses where nothing is."""

import io
import json
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

ADDRESSES = (
    *("http://", "http://localhost:1/{}.pth", "http://[::1", "https://exa mple/{}", "ftp://localhost:1/{}"),
    *(
        "file:///{}",
        "hf://{}",
        "hf://{}/{}",
        "itpn://{}",
        "catalog://{}",
        "detectron2://{}.pkl",
        "gdrive://{}",
    ),
    *(
        "https://user:secret@localhost:1/{}",
        "s3://{}/x",
        "://{}",
        "http:/{}",
        "{}://{}",
        "http://localhost:{}/x",
    ),
    *("\\\\host\\{}", "~{}/x.pth"),
)
_WORDS = ("x", "", "..", "a" * 300, "é", "%00", "?token=secret", "99999999", "a b", "\n")
_SECTIONS = ("dataset", "dataloader", "optimizer", "lr_multiplier", "train", "model")


class Touch:
    """What a hostile pickle would do: a file appears where an unsafe reader loads it."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def address(rng: random.Random) -> str:
    """An address from which nothing can come."""
    return rng.choice(ADDRESSES).format(*(rng.choice(_WORDS) for _ in range(3)))


def pickled(state: Any, marker: Path, rng: random.Random) -> tuple[bytes, str]:
    """A pickle, and what it tries in words."""
    what = rng.choice(("touch", "doubled text", "nested tuples", "nested lists", "set", "opcodes"))
    depth = rng.choice((30, 60, 200, 5000))
    if what == "touch":
        content = {"model": state, "extra": Touch(marker)}
        return pickle.dumps(content, protocol=rng.choice((2, 3, 4, 5))), what
    if what == "doubled text":
        pairs = b"h\x00h\x00\x86q\x00" * depth
        return b"\x80\x02U\x08aaaaaaaaq\x00" + pairs + b".", f"{what}, {depth}"
    if what == "opcodes":
        return b"\x80\x04" + rng.randbytes(rng.choice((5, 50, 500))) + b".", what
    nested: Any = ()
    for _ in range(min(depth, 60)):
        nested = [nested, nested] if what == "nested lists" else (nested, nested)
    if what != "set":
        return pickle.dumps({"model": nested}, protocol=2), f"{what}, {depth}"
    # a set asks for the hash of its members, which visits every path through them
    inner = pickle.dumps(nested, protocol=4)
    return inner[:2] + b"\x8f(" + inner[2:-1] + b"\x90.", f"{what}, {depth}"


def as_zip(data: bytes) -> bytes:
    """A pickle as the file of torch that would hold it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("model/data.pkl", data)
        archive.writestr("model/version", "3\n")
    return stream.getvalue()


def yaml_texts(marker: Path) -> dict[str, str]:
    """YAML files by what is wrong with them. ``other.yaml`` beside them has an object of Python."""
    mark = json.dumps(str(marker))

    def config(section: str, text: str) -> str:
        rest = "".join(f"{name}: {{}}\n" for name in _SECTIONS if name != section)
        return f"{section}:\n  {text}\n{rest}"

    letters = "abcdefghij"
    bomb = "".join(
        f"{x}: &{x} [{','.join([f'*{y}'] * 9)}]\n" for y, x in zip(letters, letters[1:], strict=False)
    )
    return {
        "python object": other_yaml(marker),
        "python name": "SOLVER:\n  STEPS: !!python/name:os.system\n",
        "base": "_BASE_: other.yaml\n",
        "base of itself": "_BASE_: config.yaml\n",
        "base missing": "_BASE_: nothing.yaml\n",
        "target": config("model", f"{{_target_: os.mkdir, path: {mark}}}"),
        "target of torch": config("model", f"{{_target_: torch.os.mkdir, path: {mark}}}"),
        "target nested": config("dataset", f"train: {{_target_: pathlib.Path.touch, self: {mark}}}"),
        "hub": config("model", "{_target_: torch.hub.load, repo_or_dir: /tmp, model: x, source: local}"),
        "environment": "OUTPUT_DIR: ${oc.env:HOME}\n",
        "bomb": f"a: &a [x,x,x,x,x,x,x,x,x]\n{bomb}",
        "list": "- 1\n- 2\n",
        "empty": "",
        "text": "hello",
        "number": "7",
        "unknown key": "SOLVER: {BASE_LRR: 1}\n",
        "wrong type": "SOLVER: {MAX_ITER: many}\n",
        "version": "VERSION: 99\n",
        "tabs": "MODEL:\n\tMASK_ON: True\n",
    }


def other_yaml(marker: Path) -> str:
    """A YAML that makes a folder where it is loaded by an unsafe reader."""
    return f"MODEL: !!python/object/apply:os.mkdir [{json.dumps(str(marker))}]\n"
