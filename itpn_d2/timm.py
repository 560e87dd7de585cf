"""timm's own scripts with the trunks of this project among its models.

    python -m itpn_d2.timm validate.py --data-dir photos --model fast_itpn_nano --checkpoint FILE
    torchrun --nproc_per_node 8 -m itpn_d2.timm train.py --model fast_itpn_tiny ...

The script runs as ``python SCRIPT ARGUMENTS`` would, after ``import itpn_d2``. timm's package does not hold
its scripts: take train.py, validate.py and benchmark.py from its repository, at the installed release. A
checkpoint of train_net.py becomes one for them by tools/convert_checkpoint.py.
"""

import runpy
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    """Run ``arguments`` (default: of the command line), a script and what it gets."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given or given[0] in ("-h", "--help"):
        print(__doc__)
        sys.exit(0 if given else 2)
    script = Path(given[0])
    if not script.is_file():
        sys.exit(f"{script}: no such file. python -m itpn_d2.timm --help says where timm's scripts are")
    import itpn_d2  # noqa: F401  (registers the trunks, also where this file is not run as a module)

    sys.argv = given
    sys.path.insert(0, str(script.resolve().parent))
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
