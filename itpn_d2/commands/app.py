"""A web page served by this machine: upload an image, choose a model and a score threshold, see the
detections and the time of each stage.

    itpn-app    # the small detector of cells in the package
    itpn-app --config-file output/x/config.yaml --weights output/x/model_final.pth
    itpn-app --config-file A.py B.py --weights a.pth b.pth --names first second --port 7860

Needs the extra "app" (pip install 'itpn-d2[app]'). The page and its server fetch nothing from elsewhere, and
only this machine can reach them unless --host says otherwise. One image is processed at a time. Uploads are
limited in bytes and pixels, and deleted after half an hour and when the server ends.
"""

import argparse
import signal
import socket
import sys
from contextlib import suppress
from importlib.util import find_spec

from ..boxed import DETECTOR
from ..errors import ConfigError, add_debug, errors_of_use


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--config-file",
        nargs="+",
        default=[],
        metavar="FILE|NAME|FOLDER",
        help="configs, zoo names, folders written by save_pretrained or hf://org/name of the Hugging Face "
        "hub, one for each model (default: the cell detector in the package)",
    )
    p.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="FILE",
        help="checkpoints, one for each config (default: those in the configs)",
    )
    p.add_argument("--names", nargs="+", default=[], help="names of the models on the page")
    p.add_argument("--device", help="device, such as cuda or cpu (default: CUDA if available)")
    p.add_argument(
        "--dtype", default="fp32", choices=("fp32", "bf16", "fp16", "auto"), help="precision of the models"
    )
    p.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 admits other machines (default: 127.0.0.1)",
    )
    p.add_argument("--port", type=int, default=7860, help="port to listen on (default: 7860)")
    p.add_argument(
        "--allow-host",
        nargs="+",
        default=[],
        metavar="NAME",
        help="further host names under which the page is served",
    )
    p.add_argument(
        "--max-upload", type=float, default=20, metavar="MB", help="largest file accepted (default: 20)"
    )
    p.add_argument(
        "--max-megapixels", type=float, default=50, metavar="N", help="largest image accepted (default: 50)"
    )
    add_debug(p)
    return p


def choices_of(args: argparse.Namespace) -> dict[str, tuple[str | None, str | None]]:
    """Config and weights of each model by its name.

    Raises:
        ConfigError: the numbers of weights or names and of configs differ, or a name occurs twice.
    """
    configs = args.config_file or [None]
    for option, given in (("--weights", args.weights), ("--names", args.names)):
        if given and len(given) != len(configs):
            raise ConfigError(
                f"{option}: {len(given)} for {len(configs)} configs; give one for each, or none"
            )
    names = args.names or [w or c or DETECTOR for w, c in zip(args.weights or configs, configs, strict=True)]
    if len(set(names)) != len(names):
        raise ConfigError(f"--names: {', '.join(names)}: all names must be different")
    weights = args.weights or [None] * len(configs)
    return dict(zip(names, zip(configs, weights, strict=True), strict=True))


def main(arguments: list[str] | None = None) -> int:
    """Run the command until it is interrupted; returns its exit status.

    Raises:
        SystemExit: with status 2 where Gradio is missing, or an option or file can't be used.
    """
    args = parser().parse_args(arguments)
    with errors_of_use(args.debug):
        choices = choices_of(args)
        for option in ("max_upload", "max_megapixels"):
            if not getattr(args, option) > 0:
                raise ConfigError(f"--{option.replace('_', '-')} {getattr(args, option)}: more than 0")
        if find_spec("gradio") is None:
            raise ConfigError("the page needs Gradio: pip install 'itpn-d2[app]'")
        from ..inference.page import Models, build, serve

        models = Models(choices, args.max_megapixels, device=args.device, dtype=args.dtype)
        models.get(next(iter(models.choices)), None)  # errors are reported now, not on the page
        names = {*args.allow_host, args.host, socket.gethostname()}
        largest = int(1e6 * args.max_upload)
        address, run, _ = serve(build(models), args.host, args.port, names, largest)
        print(f"Open {address} (Ctrl-C ends it)", flush=True)
        # uvicorn raises the signal that ended it once more; uploads are removed at a regular exit
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with suppress(KeyboardInterrupt):
            run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
