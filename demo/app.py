"""A web page of this machine: drop a picture, choose a model and a threshold, see what it finds and how
long it took.

python demo/app.py --config-file output/x/config.yaml --weights output/x/model_final.pth
python demo/app.py --config-file A.py B.py --weights a.pth b.pth --names first second --port 7860

Needs the extra "app" (pip install 'itpn-d2[app]'). The page and its server fetch nothing from elsewhere,
and only this machine sees them unless --host says otherwise.
"""

import argparse
import html
import os
import sys
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when Gradio is imported

import gradio as gr
import numpy as np
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from itpn_d2.backbone import Trunk
from itpn_d2.data.decode import BrokenImageError
from itpn_d2.engine.parts import find_part
from itpn_d2.errors import ConfigError, add_debug, errors_of_use
from itpn_d2.evaluation import draw_prediction, exit_picture
from itpn_d2.inference import Predictor

_KEPT = 4  # predictors in memory
_LISTED = 30  # objects in the table
_NUMBER = "text-align:right;white-space:nowrap"
_POLICY = b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src 'self' ws: wss:"


class OnlyFromHere:
    """Tells the browser to fetch nothing from other hosts, whatever the page's libraries would like."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"content-security-policy", _POLICY)]
            await send(message)

        await self.app(scope, receive, send_with_policy if scope["type"] == "http" else send)


class Models:
    """Predictors by name and keep ratio of token migration, loaded when they are first asked for.

    Args:
        choices: config and weights (None: the config's) by name.
        options: further arguments of every :class:`~itpn_d2.inference.Predictor`.
    """

    def __init__(self, choices: Mapping[str, tuple[str, str | None]], **options: Any):
        self.choices, self.options = dict(choices), options
        self.get = lru_cache(_KEPT)(self._load)

    def _load(self, name: str, keep: float | None) -> Predictor:
        config, weights = self.choices[name]
        migration = None if keep is None else {"keep": keep}
        return Predictor(config, weights, migration=migration, **self.options)

    def analyse(
        self, path: str | None, name: str, threshold: float, keep: float
    ) -> tuple[np.ndarray, np.ndarray | None, str, str]:
        """What the page shows for a picture: it with what was found, the tokens that left (None without
        migration), the time of each stage and the objects as HTML tables.

        Args:
            path: of the image.
            threshold: of scores that are drawn and listed.
            keep: of token migration; 1 leaves the model as its config has it.

        Raises:
            gr.Error: what the page is to say where there is no result.
        """
        if path is None:
            raise gr.Error("Drop a picture first.")
        try:
            predictor = self.get(name, None if keep >= 1 else keep)
            found = predictor.timed(path)
            assert found.image is not None and found.output is not None
            started = time.perf_counter()
            drawn = draw_prediction(found.image, found.output, predictor.metadata, threshold, 640)
            seconds = {**found.seconds, "drawing": time.perf_counter() - started}
            exits = predictor.exits(path)
        except BrokenImageError as error:
            raise gr.Error(f"The picture can't be read: {error}") from error
        except ValueError as error:  # of the config, the weights, the acceleration
            raise gr.Error(str(error)) from error
        tokens = None
        if exits is not None:
            trunk = find_part(predictor.model, Trunk)
            assert trunk is not None
            tokens = exit_picture(*exits, trunk.depths[2])
        return drawn, tokens, time_table(seconds), object_table(found.output, predictor.metadata, threshold)


def time_table(seconds: Mapping[str, float]) -> str:
    """Milliseconds of each stage, with a bar for its share."""
    total = sum(seconds.values())
    rows = [
        f"<tr><td>{html.escape(stage)}</td><td style='{_NUMBER}'>{1000 * value:.1f} ms</td>"
        f"<td style='width:60%'><div style='background:#3572b0;height:.8em;width:{100 * value / total:.1f}%'>"
        f"</div></td></tr>"
        for stage, value in seconds.items()
    ]
    total_row = f"<tr><td><b>total</b></td><td style='{_NUMBER}'><b>{1000 * total:.1f} ms</b></td></tr>"
    return f"<table id='times' style='width:100%'>{''.join(rows)}{total_row}</table>"


def object_table(output: dict[str, Any], metadata: Any, threshold: float) -> str:
    """Class, score and box of the objects above a score, the best first."""
    if "instances" not in output:
        return "<p id='objects'>This model marks pixels, it does not list objects.</p>"
    found = output["instances"].to("cpu")
    found = found[found.scores >= threshold]
    found = found[found.scores.argsort(descending=True)]
    names = metadata.get("thing_classes") or []
    rows = []
    for index in range(min(len(found), _LISTED)):
        number = int(found.pred_classes[index])
        name = names[number] if number < len(names) else str(number)
        box = ", ".join(f"{v:.0f}" for v in found.pred_boxes.tensor[index].tolist())
        rows.append(f"<tr><td>{html.escape(name)}</td><td>{found.scores[index]:.0%}</td><td>{box}</td></tr>")
    head = "<tr><th align=left>class</th><th align=left>score</th><th align=left>box</th></tr>"
    more = f"<p>{len(found) - _LISTED} more</p>" if len(found) > _LISTED else ""
    table = f"<table id='objects' style='width:100%'>{head}{''.join(rows)}</table>"
    return f"<p>{len(found)} objects</p>{table}{more}"


def build(models: Models) -> gr.Blocks:
    """The page."""
    names = list(models.choices)
    with gr.Blocks(title="itpn_d2", analytics_enabled=False) as page:
        gr.Markdown("## What does the model see?")
        with gr.Row():
            with gr.Column(scale=1):
                picture = gr.Image(
                    label="picture", type="filepath", sources=["upload", "clipboard"], height=300
                )
                model = gr.Dropdown(names, value=names[0], label="model")
                threshold = gr.Slider(0, 1, 0.5, step=0.05, label="lowest score")
                keep = gr.Slider(
                    0.3, 1, 1, step=0.05, label="token migration: share of tokens kept at each drop (1: all)"
                )
                start = gr.Button("Look", variant="primary", elem_id="look")
            with gr.Column(scale=2):
                drawn = gr.Image(label="found", interactive=False, format="png", elem_id="drawn")
                tokens = gr.Image(label="tokens that stay", interactive=False, format="png", elem_id="tokens")
                with gr.Row():
                    times = gr.HTML(label="time of each stage")
                    objects = gr.HTML(label="objects")
        inputs, outputs = [picture, model, threshold, keep], [drawn, tokens, times, objects]
        start.click(models.analyse, inputs, outputs)
        for changed in (model, threshold, keep):
            changed.input(models.analyse, inputs, outputs)
        picture.upload(models.analyse, inputs, outputs)
    return page


def launch(page: gr.Blocks, host: str, port: int, wait: bool = True) -> str:
    """Serve the page; its address. Without ``wait`` the server goes on in a thread.

    Raises:
        ConfigError: the port is taken.
    """
    fonts: Any = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            theme=gr.themes.Default(**fonts),  # Gradio's own fonts come from elsewhere
            app_kwargs={"middleware": [Middleware(OnlyFromHere)]},
        )
    except OSError as error:
        raise ConfigError(f"--port {port}: {error}; choose another") from error
    if wait:
        print(f"Open {address} (Ctrl-C ends it)", flush=True)
        page.block_thread()
    return address


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--config-file", required=True, nargs="+", metavar="FILE|NAME", help="one for each model")
    p.add_argument("--weights", nargs="+", default=[], metavar="FILE", help="as many (else the configs')")
    p.add_argument("--names", nargs="+", default=[], help="of the models on the page")
    p.add_argument("--device", help="cuda, cpu, ... (default: CUDA if there is one)")
    p.add_argument("--dtype", default="fp32", choices=("fp32", "bf16", "fp16", "auto"))
    p.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in")
    p.add_argument("--port", type=int, default=7860)
    add_debug(p)
    return p


def choices_of(args: argparse.Namespace) -> dict[str, tuple[str, str | None]]:
    """Config and weights of each model by its name.

    Raises:
        ConfigError: not as many weights or names as configs, or a name twice.
    """
    configs = args.config_file
    for option, given in (("--weights", args.weights), ("--names", args.names)):
        if given and len(given) != len(configs):
            raise ConfigError(f"{option}: {len(given)} for {len(configs)} configs, give one for each or none")
    names = args.names or [w or c for w, c in zip(args.weights or configs, configs, strict=True)]
    if len(set(names)) != len(names):
        raise ConfigError(f"--names: {', '.join(names)}: each needs a name of its own")
    weights = args.weights or [None] * len(configs)
    return dict(zip(names, zip(configs, weights, strict=True), strict=True))


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    with errors_of_use(args.debug):
        models = Models(choices_of(args), device=args.device, dtype=args.dtype)
        models.get(next(iter(models.choices)), None)  # what is wrong is said now, not on the page
        launch(build(models), args.host, args.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
