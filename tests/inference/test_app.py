"""The web page: what it answers, and in a real browser that is offline."""

import importlib.util
import shutil
import socket
from pathlib import Path

import pytest
from PIL import Image

gradio = pytest.importorskip("gradio", reason="needs the extra 'app'")


APP = Path(__file__).resolve().parents[2] / "demo" / "app.py"


@pytest.fixture(scope="module")
def app():
    spec = importlib.util.spec_from_file_location("demo_app", APP)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def models(app, trained):
    run = (str(trained / "config.yaml"), str(trained / "model_final.pth"))
    return app.Models({"first": run, "second": run, "lost": (run[0], "nowhere.pth")}, device="cpu")


def test_what_it_answers(models, good):
    drawn, tokens, times, objects = models.analyse(str(good[0] / "plain.png"), "first", 0.0, 1)
    assert drawn.shape == (384, 640, 3) and tokens is None
    assert all(f"<td>{s}</td>" in times for s in ("preprocess", "trunk", "pyramid", "heads", "drawing"))
    assert "5 objects" in objects and objects.count("<tr>") == 6
    assert "0 objects" in models.analyse(str(good[0] / "plain.png"), "first", 1.0, 1)[3]
    _, tokens, _, _ = models.analyse(str(good[0] / "plain.png"), "second", 0.0, 0.5)
    assert tokens.ndim == 3 and tokens.shape[1] > tokens.shape[0]


def test_a_model_is_loaded_once(models):
    assert models.get("first", None) is models.get("first", None)
    assert models.get("first", None) is not models.get("second", None)


def test_errors_are_said_on_the_page(models, bad):
    for path, name, reason in [
        (None, "first", "Drop a picture"),
        (str(bad[0] / "cut.png"), "first", "can't be read.*truncated"),
        (str(bad[0] / "cut.png"), "lost", "nowhere.pth"),
    ]:
        with pytest.raises(gradio.Error, match=reason):
            models.analyse(path, name, 0.5, 1)


@pytest.mark.parametrize(
    "options, reason",
    [(["--weights", "a"], "1 for 2 configs"), (["--names", "x", "x"], "x, x: each needs a name")],
)
def test_choices_that_do_not_fit(app, options, reason, refused):
    with refused(reason):
        app.main(["--config-file", "A.py", "B.py", *options])


def browser_path():
    return next(
        (
            found
            for name in ("chromium", "chromium-browser", "google-chrome")
            if (found := shutil.which(name))
        ),
        None,
    )


@pytest.mark.slow
@pytest.mark.skipif(browser_path() is None, reason="no Chromium here")
def test_in_a_browser(app, models, good, tmp_path):
    """A picture is dropped, seen, and looked at again with migration; nothing is asked of another host."""
    sync = pytest.importorskip("playwright.sync_api")
    page_of = app.build(models)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = app.launch(page_of, "127.0.0.1", port, wait=False)
    asked, errors = [], []
    try:
        with sync.sync_playwright() as p:
            browser = p.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(address)
            page.locator("input[type=file]").first.set_input_files(str(good[0] / "plain.png"))
            page.locator("#times").wait_for(timeout=60_000)
            assert "trunk" in page.locator("#times").inner_text()
            drawn = page.locator("#drawn img").first
            drawn.wait_for(timeout=60_000)
            assert drawn.evaluate("image => image.naturalWidth") == 640
            assert page.locator("#tokens img").count() == 0
            keep = page.get_by_label("token migration").first
            keep.fill("0.5")
            keep.press("Tab")
            page.locator("#tokens img").first.wait_for(timeout=60_000)
            page.screenshot(path=str(tmp_path / "page.png"), full_page=True)
            browser.close()
    finally:
        page_of.close()
    hosts = {url.split("/")[2].split(":")[0] for url in asked if url.startswith(("http", "ws"))}
    assert hosts == {"127.0.0.1"} and not errors
    with Image.open(tmp_path / "page.png") as image:
        assert image.width == 1280
