"""A web page over predictors: an image in; detections, tokens that exit and the time of each stage out.

Importing it imports Gradio, which the extra "app" installs, and decides where uploads are kept.
"""

import atexit
import html
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any

# read when Gradio is imported
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
if "GRADIO_TEMP_DIR" not in os.environ:
    os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="itpn_d2_page_")
    atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)

import gradio as gr
import numpy as np
import uvicorn
from fastapi import FastAPI

from ..backbone import Trunk
from ..data.decode import BrokenImageError
from ..engine.parts import find_part
from ..errors import ConfigError
from ..evaluation import draw_prediction, exit_picture
from .opening import open_predictor
from .predictor import Predictor
from .web import Guard, check_pixels

_KEPT = 4  # predictors in memory
_LISTED = 30  # objects in the table
_WAITING = 16  # requests, more are refused
_CLEANING, _AGE = 300, 1800  # seconds between removals of uploads, and after which they are
_NUMBER = "text-align:right;white-space:nowrap"


class Models:
    """Predictors by name and keep ratio of token migration, loaded when they are first asked for.

    Args:
        choices: config (None: the detector in the package) and weights (None: the config's) by name.
        megapixels: of an image, at most.
        options: further arguments of every :class:`~itpn_d2.inference.Predictor`.
    """

    def __init__(
        self, choices: Mapping[str, tuple[str | None, str | None]], megapixels: float = 50.0, **options: Any
    ):
        self.choices, self.megapixels, self.options = dict(choices), megapixels, options
        self.get = lru_cache(_KEPT)(self._load)

    def _load(self, name: str, keep: float | None) -> Predictor:
        config, weights = self.choices[name]
        migration = None if keep is None else {"keep": keep}
        return open_predictor(config, weights, migration=migration, **self.options)

    def analyse(
        self, path: str | None, name: str, threshold: float, keep: float
    ) -> tuple[np.ndarray, np.ndarray | None, str, str]:
        """The contents of the page for an image: the image with its detections, the tokens that exited (None
        without migration), and HTML tables of the time of each stage and of the objects.

        Args:
            path: of the image.
            threshold: of scores that are drawn and listed.
            keep: of token migration; 1 leaves the model as its config has it.

        Raises:
            gr.Error: the message of the page if there is no result.
        """
        if path is None:
            raise gr.Error("Upload an image first.")
        try:
            check_pixels(path, self.megapixels)
            predictor = self.get(name, None if keep >= 1 else keep)
            found = predictor.timed(path)
            assert found.image is not None and found.output is not None
            started = time.perf_counter()
            drawn = draw_prediction(found.image, found.output, predictor.metadata, threshold, 640)
            seconds = {**found.seconds, "drawing": time.perf_counter() - started}
            exits = predictor.exits(path)
        except BrokenImageError as error:
            raise gr.Error(f"The image can't be used: {error}") from error
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
    """The page. All events wait in one queue, since all run a model."""
    names = list(models.choices)
    with gr.Blocks(title="itpn_d2", analytics_enabled=False, delete_cache=(_CLEANING, _AGE)) as page:
        gr.Markdown("## Detections of a trained model")
        with gr.Row():
            with gr.Column(scale=1):
                # image_mode None: the file as it is, whose size is looked at before it is decoded
                image = gr.Image(
                    label="Image",
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard"],
                    height=300,
                )
                model = gr.Dropdown(names, value=names[0], label="Model")
                threshold = gr.Slider(0, 1, 0.5, step=0.05, label="Score threshold")
                keep = gr.Slider(
                    0.3, 1, 1, step=0.05, label="Keep ratio of token migration (1: as the config has it)"
                )
                run = gr.Button("Run", variant="primary", elem_id="run")
            with gr.Column(scale=2):
                drawn = gr.Image(label="Detections", interactive=False, format="png", elem_id="drawn")
                tokens = gr.Image(label="Token exits", interactive=False, format="png", elem_id="tokens")
                with gr.Row():
                    times = gr.HTML(label="Time of each stage")
                    objects = gr.HTML(label="Objects")
        for event in (run.click, model.input, threshold.input, keep.input, image.upload):
            event(
                models.analyse,
                [image, model, threshold, keep],
                [drawn, tokens, times, objects],
                concurrency_id="model",
                concurrency_limit=1,
                api_visibility="private",
            )
    return page.queue(max_size=_WAITING)


def serve(
    page: gr.Blocks, host: str, port: int, hosts: Collection[str] = (), largest: int = 20_000_000
) -> tuple[str, Callable[[], None], Callable[[], None]]:
    """A server of the page, which listens already.

    Args:
        hosts, largest: see :class:`.web.Guard`.

    Returns:
        Its address; what runs it until it is stopped; and what stops it, from another thread.

    Raises:
        ConfigError: the port is taken, or the host is none of this machine's.
    """
    fonts: Any = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    app = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page,
        path="/",
        server_name=host,
        server_port=port,
        max_file_size=largest,
        ssr_mode=False,
        footer_links=[],
        theme=gr.themes.Default(**fonts),  # Gradio's own fonts come from elsewhere
    )
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--host {host} --port {port}: {error}; choose others") from error
    guarded: Any = Guard(app, hosts, largest)
    server = uvicorn.Server(uvicorn.Config(guarded, log_level="warning", timeout_graceful_shutdown=5))

    def stop() -> None:
        server.should_exit = True

    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}/", lambda: server.run([listening]), stop
