"""Run a notebook's cells in this process and keep what they print: no Jupyter is needed.

    python tools/notebook.py docs/tutorials/coco_to_report.ipynb

Cells with the tag "quiet" run, but what they print is not kept.
"""

import argparse
import ast
import base64
import contextlib
import io
import json
from pathlib import Path
from typing import Any

from itpn_d2.files import write_json


def execute(notebook: dict[str, Any]) -> dict[str, Any]:
    """Run the code cells in order, in one namespace, and put their outputs into the notebook.

    Raises:
        Exception: whatever a cell raises.
    """
    namespace: dict[str, Any] = {"__name__": "notebook"}
    number = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        number += 1
        printed, value = _run("".join(cell["source"]), f"<cell {number}>", namespace)
        cell["execution_count"], cell["outputs"] = number, []
        if "quiet" in cell["metadata"].get("tags", ()):
            continue
        if printed:
            cell["outputs"].append(
                {"output_type": "stream", "name": "stdout", "text": printed.splitlines(True)}
            )
        if value is not None:
            data: dict[str, Any] = {"text/plain": repr(value).splitlines(True)}
            if hasattr(value, "_repr_png_"):  # a picture shows itself
                size = f"{value.size[0]}x{value.size[1]}"
                data = {"text/plain": [f"a picture of {size} pixels"], "image/png": _base64(value)}
            result = {"output_type": "execute_result", "execution_count": number}
            cell["outputs"].append({**result, "data": data, "metadata": {}})
    return notebook


def _run(source: str, name: str, namespace: dict[str, Any]) -> tuple[str, Any]:
    """What a cell prints, and the value of its last line where that is an expression."""
    tree = ast.parse(source, name)
    ends = tree.body[-1] if tree.body else None
    last = ends if isinstance(ends, ast.Expr) else None
    tree.body = tree.body[:-1] if last is not None else tree.body
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(tree, name, "exec"), namespace)
        value = None
        if last is not None:
            value = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
    return out.getvalue(), value


def _base64(picture: Any) -> str:
    return base64.b64encode(picture._repr_png_()).decode()


def main(arguments: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("notebook", type=Path, help="notebook to run; it is overwritten with its outputs")
    args = p.parse_args(arguments)
    content = execute(json.loads(args.notebook.read_text(encoding="utf-8")))
    write_json(args.notebook, content, indent=1)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
