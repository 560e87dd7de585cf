"""The commands of the pages and of `--help` can be given as they stand: files, options and config keys exist.

They run in bash with every program replaced by one that writes down its arguments, which are then read by the
parser of the command they name, and as overrides of the config they name. Nothing is trained.
"""

import argparse
import ast
import importlib
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from itpn_d2.engine import load_config
from itpn_d2.engine.config_files import find_config_file

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TRAINING, PRETRAINING = "configs/Custom/mask_rcnn_fast_itpn_nano.py", "configs/Pretrain/mfm_fast_itpn_nano.py"
PROGRAMS = ("python", "torchrun", "make", "pip", "docker", "mkdir", "scontrol")
CONSOLE = dict(
    re.findall(r"^(itpn-\S+) = \"([\w.]+):main\"$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
)
_OVERRIDE = re.compile(r"[+~]{0,2}[A-Za-z_][\w.]*=")
# programs of Detectron2, timm and Python; the last hands on to pytest what it does not know
FOREIGN = ("lazyconfig_train_net.py", "analyze_model.py", "visualize_data.py", "itpn_d2.timm", "timeit")
FOREIGN += ("tools/timm_tests.py",)


def texts() -> Iterator[tuple[str, str]]:
    """Name and shell text of each block of a page, of each command within its lines, and of each example in
    the docstring of a command."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
            yield page.name, block
        for line in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            if re.match(r"(python|torchrun|itpn-\w+) .*--\w[\w-]* \S", line):
                yield page.name, line
    for folder in ("itpn_d2", "pretrain", "tools"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
            for line in text.replace("\\\n", " ").splitlines():
                if re.match(r"    (python|torchrun|itpn-\w+) ", line):
                    yield folder, line


def commands(name: str, text: str) -> list[list[str]]:
    """The arguments of each command, as the shell expands them."""
    text = re.sub(r"\b([A-Z]+)(\|[A-Z]+)+\b", r"\1", text)  # one of several
    text = text.replace("--machine-rank R", "--machine-rank 0").replace("--input ...", "--input FILE")
    stubs = [f"{n}() {{ printf '%s\\0' {n} \"$@\"; printf '\\1'; }}" for n in (*PROGRAMS, *CONSOLE)]
    script = "\n".join([*stubs, 'srun() { "$@"; }', text])
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert not done.stderr, f"{name}: {text}{done.stderr}"
    found = []
    for command in done.stdout.split("\1")[:-1]:
        words = (word for word in command.split("\0") if word not in ("...", ""))
        found.append([re.sub(r"^\[(.*\w)\]$", r"\1", word) for word in words])  # what is optional, given
    return found


ALL = [(name, words) for name, text in texts() for words in commands(name, text)]


def split(words: list[str]) -> tuple[str, list[str]] | None:
    """The module that a command runs, and its arguments; None for programs of others."""
    program, *rest = words
    if program in CONSOLE:
        return CONSOLE[program], rest
    if program == "torchrun":
        starts = [i for i, word in enumerate(rest) if word == "-m" or word.endswith(".py")]
        rest = rest[starts[0] :] if starts else []
    if program not in ("python", "torchrun") or not rest:
        return None
    if rest[0] == "-m":
        name, rest = rest[1], rest[2:]
        if name not in FOREIGN and (ROOT / name.replace(".", "/") / "__main__.py").is_file():
            name += ".__main__"
    elif rest[0] == "-c":
        compile(rest[1], "-c", "exec")
        return None
    else:
        name, rest = rest[0], rest[1:]
        assert name in FOREIGN or (ROOT / name).is_file(), name
        name = name if name in FOREIGN else name.removesuffix(".py").replace("/", ".").removeprefix("tools.")
    return None if name in FOREIGN else (name.replace("demo.", "itpn_d2.commands."), rest)


class _Parsed(Exception):
    pass


def parsed(module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """What the command's own parser makes of its arguments."""
    own = argparse.ArgumentParser.parse_args

    def read(self: argparse.ArgumentParser, *given: Any) -> None:
        raise _Parsed(own(self, *given))

    command = importlib.import_module(module)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", read)
    try:
        (command.command if module == "train_net" else command.main)(arguments)
    except _Parsed as result:
        return result.args[0]  # type: ignore[no-any-return]
    except SystemExit as ended:
        if ended.code == 0:  # --help
            return argparse.Namespace()
        pytest.fail(f"{module} {shlex.join(arguments)}: exit status {ended.code}")
    pytest.fail(f"{module} has read no arguments")


def settings(module: str, args: argparse.Namespace, words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Each config that a command reads, with its overrides."""
    config = getattr(args, "config_file", None)
    config = next(iter(config), None) if isinstance(config, list) else config
    if module == "transfer":
        yield args.finetune_config, args.finetune
        yield args.pretrain_configs.format(method="pixel_mim"), args.pretrain
    elif module == "equal_time":
        for _, file, *overrides in args.arm:
            yield file, [*overrides, *args.all]
    elif config in ("F", "A.py", "my.yaml") or (config and config.endswith("config.yaml")):
        overrides = [word for word in words if _OVERRIDE.match(word)]
        if not any(word.startswith("DATASETS.") for word in overrides):  # of a yacs config of the reader's
            yield (PRETRAINING if module.startswith("pretrain") else TRAINING), overrides
    elif config:
        yield config, [word for word in words if _OVERRIDE.match(word)]


def test_there_are_commands() -> None:
    assert len(ALL) > 160 and len([words for _, words in ALL if split(words)]) > 130


@pytest.mark.parametrize("name", sorted({name for name, _ in ALL}))
def test_commands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    makefile = (ROOT / "Makefile").read_text()
    for words in (words for page, words in ALL if page == name):
        if words[0] == "make":
            targets = [word for word in words[1:] if "=" not in word]
            assert all(re.search(f"^{target}:", makefile, re.MULTILINE) for target in targets), words
        found = split(words)
        if found is None:
            continue
        module, arguments = found
        with monkeypatch.context() as patch:
            args = parsed(module, arguments, patch)
        for config, overrides in settings(module, args, arguments):
            given = [o for o in overrides if not o.endswith("=...") and o != "key=value"]
            if module == "itpn_d2.model_zoo.__main__":
                find_config_file(config)
            else:
                load_config(config, given)
