"""``--show-config``: every value of a config and its origin."""

import ast
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..addresses import masked
from ..errors import ConfigError
from ..lazy.calls import stored
from ..lazy.options import options_of
from ..lazy.targets import find, name_of
from .config import as_yaml, load_config
from .config_reading import load_lazy, read_config
from .schema import SECTIONS

_ABSENT = object()


def shown(path: str, overrides: Sequence[str]) -> str:
    """The checked config of :func:`~itpn_d2.engine.load_config` as yaml, references resolved, a comment on
    each line: the file that says so (of those that a ``.py`` imports, the last that has the value), an
    override, or the default of a call or of the schema. Nothing is built.

    Raises:
        ConfigError: as ``load_config``.
    """
    config = load_config(path, overrides)
    sources = _Sources(path, overrides)
    lines = [line for section in SECTIONS for line in _lines(config._get_node(section), section, 0, sources)]
    return "\n".join(lines) + "\n"


class _Sources:
    """The origin of every value: a file or an override."""

    def __init__(self, path: str, overrides: Sequence[str]):
        self.path = path
        self.given = [o.partition("=")[0].lstrip("+") for o in overrides if "=" in o]
        try:
            read: Any = read_config(path)
        except ConfigError:  # a yacs file that needs its overrides
            read = {}
        self.files = list(_files(Path(path), read if isinstance(read, DictConfig) else {}))

    def of(self, key: str) -> str:
        """The origin of the value at a full key."""
        if any(key == given or key.startswith(f"{given}.") for given in self.given):
            return "override"
        said = [(name, _at(content, key)) for name, content in self.files]
        said = [(name, value) for name, value in said if value is not _ABSENT]
        if not said:
            return "default of the schema"
        # a file hands on what it imports: the innermost that has the same
        return [name for name, value in said if repr(value) == repr(said[0][1])][-1]


def _files(path: Path, content: Any) -> Iterator[tuple[str, Any]]:
    """The config and those it imports by relative imports, each once, with what they hold; outer ones
    first."""
    yield str(path), content
    todo, seen = [path.resolve()], {path.resolve()}
    while todo:
        for inner in _imports(todo.pop(0)):
            if inner not in seen and inner.is_file():
                seen.add(inner)
                todo.append(inner)
                yield _short(inner), load_lazy(str(inner))


def _imports(path: Path) -> Iterator[Path]:
    if path.suffix != ".py":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1]
            yield (folder / (node.module or "").replace(".", "/")).with_suffix(".py").resolve()


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _at(content: Any, key: str) -> Any:
    """The value as it is written there; references are not followed."""
    node = content
    for part in key.split("."):
        if OmegaConf.is_dict(node) and not node._is_none() and not node._is_interpolation() and part in node:
            node = node._get_node(part)
        elif OmegaConf.is_list(node) and part.isdigit() and int(part) < len(node):
            node = node._get_node(int(part))
        else:
            return _ABSENT
    return node if OmegaConf.is_config(node) or not hasattr(node, "_value") else node._value()


def _lines(node: Any, name: str, depth: int, sources: _Sources) -> Iterator[str]:
    """The lines of a value under its name; what is referred to stands there as what it is."""
    lead, note = "  " * depth, ""
    if node is not None and node._is_interpolation():
        note = f" = {node._value()}"
        node = node._dereference_node()
    key = "" if node is None else str(node._get_full_key(""))
    if OmegaConf.is_dict(node) and not node._is_none() and len(node):
        yield f"{lead}{name}:{'  #' + note if note else ''}"
        yield from _items(node, key, depth + 1, sources)
    elif OmegaConf.is_list(node) and any(OmegaConf.is_dict(node._get_node(k)) for k in range(len(node))):
        yield f"{lead}{name}:{'  #' + note if note else ''}"
        for number in range(len(node)):
            item = node._get_node(number)
            if OmegaConf.is_dict(item) and len(item):
                first, *others = _items(item, f"{key}.{number}", depth + 1, sources)
                yield f"{lead}- {first.lstrip()}"
                yield from others
            else:
                yield f"{lead}- {_inline(_plain_value(item))}  # {sources.of(f'{key}.{number}')}"
    else:
        value = _plain_value(node)
        value = name_of(value) if name == "_target_" else value
        yield f"{lead}{name}: {_inline(value)}  # {sources.of(key)}{masked(note)}"


def _items(node: DictConfig, key: str, depth: int, sources: _Sources) -> Iterator[str]:
    for name in node:
        yield from _lines(node._get_node(name), str(name), depth, sources)
    yield from _defaults(node, key, depth)


def _plain_value(node: Any) -> Any:
    if OmegaConf.is_config(node):
        return OmegaConf.to_container(node, resolve=True)
    return None if node is None else node._value()


def _inline(value: Any) -> str:
    """One line of yaml."""
    return as_yaml(value, in_a_line=True).removesuffix("...\n").strip()


def _defaults(node: DictConfig, key: str, depth: int) -> Iterator[str]:
    """The arguments that a call leaves out and that have defaults."""
    if "_target_" not in node:
        return
    target = find(stored(node, "_target_"), f"{key}._target_")
    given = {str(name): node[name] for name in node if name != "_target_"}
    for name, option in options_of(target, given).named.items():
        default = option.default
        if name in given or default is inspect.Parameter.empty or not _is_plain(default):
            continue
        yield f"{'  ' * depth}{name}: {_inline(default)}  # default of {target.__qualname__}"


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
