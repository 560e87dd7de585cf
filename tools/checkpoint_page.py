"""What the loader says of small files in each public layout and of files it refuses, for docs/checkpoints.md.

python tools/checkpoint_page.py                 # print it
python tools/checkpoint_page.py --docs docs     # write it into docs/checkpoints.md, between its marks
"""

import argparse
import re
import tempfile
from pathlib import Path

from checkpoints.examples import EXAMPLES, REFUSALS, SIZES, Example, Refusal
from itpn_d2 import create_model
from itpn_d2.checkpoint import load_pretrained
from itpn_d2.errors import CheckpointError
from pages import rewrite_section


def report(example: Example, folder: Path) -> str:
    """The table of loading it, with the name of the file alone."""
    found = load_pretrained(example.model(), example.write(folder))
    return str(found).replace(f"{folder}/", "")


def refusal(example: Refusal, folder: Path) -> str:
    """The first line of the error, without what changes with the versions of torch and of Python: their
    words for a broken file, and the numbers of its entries.

    Raises:
        RuntimeError: it was taken.
    """
    path = folder / example.file
    example.write(path)
    try:
        load_pretrained(create_model("fast_itpn_nano", **SIZES), path)
    except CheckpointError as error:
        line = str(error).splitlines()[0].replace(f"{folder}/", "")
        line = re.sub(r"(damaged one) \(.*\)", r"\1 (...)", line)
        return re.sub(r"(checksum of) \S+", r"\1 ...", line)
    raise RuntimeError(f"{example.file} ({example.title}) was taken")


def section() -> str:
    """All reports and errors."""
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for example in EXAMPLES:
            table = report(example, folder)
            lines += [f"### {example.title}", "", f"`{example.call()}`", "", "```", table, "```", ""]
        lines += ["### Refused", "", "| file | error |", "|---|---|"]
        lines += [f"| {r.title} | {refusal(r, folder).replace('|', chr(92) + '|')} |" for r in REFUSALS]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--docs", type=Path, metavar="FOLDER", help="documentation folder with checkpoints.md"
    )
    docs = parser.parse_args(arguments).docs
    if docs is None:
        print(section())
    else:
        rewrite_section(docs / "checkpoints.md", "reports", section())


if __name__ == "__main__":
    main()
