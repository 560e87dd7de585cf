"""Pages of the site that the code writes, and links that differ between the repository and the site.

mkdocs calls this module (`hooks` in mkdocs.yml); ``make docs`` builds the site.
"""

import importlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from key_meanings import meaning

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[1]
# files of the repository that are pages of the site as well
COPIED = {
    "MODEL_ZOO.md": "model_zoo.md",
    "ROADMAP.md": "roadmap.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
COMMANDS = {
    "itpn-train": "itpn_d2.commands.train",
    "itpn-pretrain": "pretrain.__main__",
    "itpn-demo": "itpn_d2.commands.demo",
    "itpn-app": "itpn_d2.commands.app",
    "itpn-export": "itpn_d2.commands.export",
    "itpn-convert": "itpn_d2.commands.convert",
    "itpn-zoo": "itpn_d2.model_zoo.__main__",
    "itpn-shards": "itpn_d2.commands.shards",
    "itpn-install-detectron2": "itpn_d2.detectron2_wheel.install",
}
# what users call; everything else is found from there
API = {
    "Models": ["itpn_d2", "itpn_d2.backbone", "itpn_d2.backbone.integral", "itpn_d2.backbone.trunk"],
    "Using a model": ["itpn_d2.inference.predictor", "itpn_d2.model_zoo", "itpn_d2.export.formats"],
    "Checkpoints": ["itpn_d2.checkpoint"],
    "Data": ["itpn_d2.data.catalogs", "itpn_d2.data.builtin", "itpn_d2.data.loader", "itpn_d2.data.mapper"],
    "Training": ["itpn_d2.engine.run", "itpn_d2.engine.training", "itpn_d2.engine.trainer", "itpn_d2.solver"],
    "Detectors and heads": [
        "itpn_d2.meta_arch.dino.dino",
        "itpn_d2.meta_arch.mask_dino.mask_dino",
        "itpn_d2.heads",
    ],
    "Evaluation": ["itpn_d2.evaluation"],
    "Pre-training": ["pretrain.methods.base", "pretrain.targets.base", "pretrain.masking", "pretrain.run"],
    "Errors and files": ["itpn_d2.errors", "itpn_d2.files"],
}


def on_files(files: "Files", config: Any) -> "Files":
    """Mkdocs asks for pages beside those in ``docs/``."""
    from mkdocs.structure.files import File  # the rest of this module does without, and so do its tests

    pages = {target: (ROOT / source).read_text(encoding="utf-8") for source, target in COPIED.items()}
    pages["reference/commands.md"] = commands_page()
    pages["reference/config_keys.md"] = config_page()
    pages["reference/api.md"] = api_page()
    for source in sorted((ROOT / "docs").rglob("*.ipynb")):
        found = files.get_file_from_path(source.relative_to(ROOT / "docs").as_posix())
        if found is not None:
            files.remove(found)
        pages[source.relative_to(ROOT / "docs").with_suffix(".md").as_posix()] = notebook_page(source)
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to files of the repository become links to the site's pages, or plain names where it has none."""
    here = Path(page.file.src_uri).parent
    from_root = page.file.src_uri in COPIED.values()

    def replaced(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if re.match(r"[a-z]+:", target) or not target:
            return match[0]
        path = ROOT / target if from_root else ROOT / "docs" / here / target
        try:
            inside = Path(os.path.normpath(path)).relative_to(ROOT).as_posix()
        except ValueError:
            return match[0]
        if inside in COPIED:
            inside = f"docs/{COPIED[inside]}"
        if inside == f"configs/{text}.py":
            return f"`{text}`"
        if not inside.startswith("docs/"):
            return f"{text} (`{inside}`)" if text.strip("`") != inside else f"`{inside}`"
        inside = inside.removeprefix("docs/")
        if inside.endswith(".ipynb"):
            inside = inside.removesuffix(".ipynb") + ".md"
        shown = _title(path) if text.endswith(".md") else text
        return f"[{shown}]({os.path.relpath(inside, here)}{anchor})"

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)#\s]*)(#[^)\s]*)?\)", replaced, markdown)


def _title(page: Path) -> str:
    """The heading of a page; its name where it has none."""
    lines = page.read_text(encoding="utf-8").splitlines() if page.is_file() else []
    return next((line.removeprefix("# ") for line in lines if line.startswith("# ")), page.name)


def on_page_content(html: str, **_: Any) -> str:
    """Sphinx's roles in docstrings become plain names."""
    role = re.compile(r":(?:attr|class|data|func|meth|mod):<code>(~?)([^<]*)</code>")
    return role.sub(lambda m: f"<code>{m[2].rsplit('.', 1)[-1] if m[1] else m[2].lstrip('.')}</code>", html)


def commands_page() -> str:
    """``--help`` of every console script."""
    parts = [
        "# Commands",
        "",
        "Every command ends with exit code 2 and one message where its input can't be used.",
    ]
    for name, module in COMMANDS.items():
        parts += ["", f"## {name}", "", "```text", help_of(name, importlib.import_module(module).main), "```"]
    return "\n".join(parts) + "\n"


def help_of(name: str, main: Callable[[list[str]], int]) -> str:
    """What ``name --help`` prints, 100 columns wide."""
    import contextlib
    import io
    import sys

    out, program, width = io.StringIO(), sys.argv[0], os.environ.get("COLUMNS")
    sys.argv[0], os.environ["COLUMNS"] = name, "100"
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            main(["--help"])
    finally:
        sys.argv[0] = program
        os.environ.pop("COLUMNS")
        if width is not None:
            os.environ["COLUMNS"] = width
    return out.getvalue().rstrip()


def api_page() -> str:
    """Modules whose docstrings mkdocstrings puts there."""
    parts = ["# API", "", "Classes and functions that programs use, as their docstrings describe them."]
    for title, modules in API.items():
        parts += ["", f"## {title}"]
        parts += [f"\n::: {module}" for module in modules]
    return "\n".join(parts) + "\n"


def config_page() -> str:
    """The keys of a config, from its schema."""
    schema = importlib.import_module("itpn_d2.engine.schema")
    parts = [
        "# Config keys",
        "",
        "A config has the sections `model`, `dataset`, `dataloader`, `optimizer`, `lr_multiplier` and",
        "`train`. Any key can be overridden on the command line (`key=value`), and `--show-config` prints",
        "all keys and values of a config. A node with `_target_` is a call: it also takes every other",
        "argument of its target. The table has the defaults of `train`; the config files have the others.",
    ]
    for title, model in (("Training and evaluation", schema.Config), ("Pre-training", schema.PretrainConfig)):
        rows = sorted(_rows(model, ""), key=lambda row: not row.startswith("| `train."))
        parts += ["", f"## {title}", "", "| key | type | default | meaning |", "|---|---|---|---|", *rows]
    return "\n".join(parts) + "\n"


def _rows(model: Any, prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if field.alias == "_target_":
            continue
        key = f"{prefix}{name}"
        inner = _model_of(field.annotation)
        if inner is not None and "list" not in str(field.annotation):
            yield from _rows(inner, f"{key}.")
            continue
        default = f"`{json.dumps(field.default, default=str)}`" if key.startswith("train.") else ""
        kind = ", ".join([_kind(field.annotation), *_limits(field)])
        # what is in angle brackets is no element of the page
        said = (field.description or meaning(key)).replace("<", "&lt;").replace(">", "&gt;")
        yield f"| `{key}` | {kind} | {default} | {said} |"


def _limits(field: Any) -> Iterator[str]:
    """A field's range in words."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    for limit in field.metadata:
        for name, word in words.items():
            if getattr(limit, name, None) is not None:
                yield f"{word} {getattr(limit, name)}"


def _model_of(annotation: Any) -> Any:
    if hasattr(annotation, "model_fields"):
        return annotation
    return next((m for a in getattr(annotation, "__args__", ()) if (m := _model_of(a)) is not None), None)


def _kind(annotation: Any) -> str:
    """The plain type in words: ``int``, ``list of float``, ``auto or bf16``."""
    arguments = getattr(annotation, "__args__", ())
    origin = getattr(annotation, "__origin__", None)
    if "Literal" in str(origin):
        return " or ".join(map(str, arguments))
    if hasattr(annotation, "__metadata__"):
        return _kind(origin)
    if origin is list or annotation is list:
        return f"list of {_kind(arguments[0])}" if arguments else "list"
    if arguments:
        return " or ".join(_kind(a) for a in arguments)
    if annotation is type(None):
        return "null"
    name = getattr(annotation, "__name__", str(annotation))
    return "section" if hasattr(annotation, "model_fields") else name


def notebook_page(path: Path) -> str:
    """A notebook as markdown: its text, its code, and what the code printed."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            shown = output.get("text") or data.get("text/plain")
            if "image/png" in data:
                parts.append(f"![{''.join(shown)}](data:image/png;base64,{data['image/png']})")
            elif shown:
                parts.append(f"```text\n{''.join(shown).rstrip()}\n```")
    return "\n\n".join(parts) + "\n"
