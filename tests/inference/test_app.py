"""The web page: what it answers, and in a real browser that is offline."""

import os
import shutil
import socket
import threading
import urllib.error
import urllib.request

import pytest
from PIL import Image

from itpn_d2.commands import app
from itpn_d2.errors import ConfigError

gradio = pytest.importorskip("gradio", reason="needs the extra 'app'")
page = pytest.importorskip("itpn_d2.inference.page")


@pytest.fixture
def models(trained):
    run = (str(trained / "config.yaml"), str(trained / "model_final.pth"))
    return page.Models({"first": run, "second": run, "lost": (run[0], "nowhere.pth")}, device="cpu")


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
        (None, "first", "Upload an image"),
        (str(bad[0] / "cut.png"), "first", "can't be used.*truncated"),
        (str(bad[0] / "cut.png"), "lost", "nowhere.pth"),
    ]:
        with pytest.raises(gradio.Error, match=reason):
            models.analyse(path, name, 0.5, 1)


@pytest.fixture
def served():
    """Serves the page of models in a thread; its address."""
    stops = []

    def start(models, largest=20_000_000):
        address, run, stop = page.serve(page.build(models), "127.0.0.1", 0, largest=largest)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        stops.append((stop, thread))
        return address

    yield start
    for stop, thread in stops:
        stop()
        thread.join(20)
        assert not thread.is_alive()


def ask(address, path="", body=None, **headers):
    """Status, headers and beginning of the answer; names of headers with ``_`` for ``-``."""
    request = urllib.request.Request(
        address + path, body, {k.replace("_", "-"): v for k, v in headers.items()}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, dict(answer.headers), answer.read(1000)
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read(1000)
    except (urllib.error.URLError, ConnectionError) as error:
        # the refusal of a large upload need not wait for its end
        assert body and isinstance(getattr(error, "reason", error), ConnectionError), error
        return 413, {}, b""


def form(content):
    """An upload as a browser sends it."""
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    return head + content + b"\r\n--x--\r\n", {"Content_Type": "multipart/form-data; boundary=x"}


def test_only_its_own_page_may_ask(models, served):
    address = served(models)
    assert ask(address)[0] == 200 and ask(address, Host="localhost:7860")[0] == 200
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        status, answered, _ = ask(address, "config", **headers)
        assert status in (403, 421) and not any(k.lower().startswith("access-control") for k in answered)
    assert not any(k.lower().startswith("access-control") for k in ask(address, Origin=address[:-1])[1])


def test_uploads_are_limited_and_kept_in_one_folder(models, served):
    address = served(models, largest=1_000_000)
    body, headers = form(b"x" * 500_000)
    status, _, answer = ask(address, "gradio_api/upload", body, **headers)
    assert status == 200 and os.environ["GRADIO_TEMP_DIR"] in answer.decode()
    for size in (1_050_000, 3_000_000):
        body, headers = form(b"x" * size)
        assert ask(address, "gradio_api/upload", body, **headers)[0] == 413


def test_too_many_pixels_are_not_decoded(models, tmp_path):
    Image.new("1", (13_000, 13_000)).save(tmp_path / "large.png")
    with pytest.raises(gradio.Error, match="169 megapixels, 50 is the limit"):
        models.analyse(str(tmp_path / "large.png"), "first", 0.5, 1)


def test_all_events_wait_for_one_another(models):
    built = page.build(models)
    events = [f for f in built.fns.values() if f.fn is not None]
    assert len(events) == 5
    assert {(f.concurrency_id, f.concurrency_limit, f.api_visibility) for f in events} == {
        ("model", 1, "private")
    }


def test_labels_are_the_terms_of_the_field(models):
    labels = {b.label for b in page.build(models).blocks.values() if getattr(b, "label", None)}
    assert {"Image", "Model", "Score threshold", "Detections"} <= labels


@pytest.mark.parametrize(
    "options", [["--max-upload", "0"], ["--max-megapixels", "-1"], ["--max-upload", "nan"]]
)
def test_limits_that_are_none(options, refused):
    with refused(options[0]):
        app.main(["--config-file", "A.py", *options])


def test_a_port_that_is_taken(models):
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(ConfigError, match="--port.*in use"):
        page.serve(page.build(models), "127.0.0.1", other.getsockname()[1])
    with pytest.raises(ConfigError, match="--host"):
        page.serve(page.build(models), "nowhere.invalid", 0)


@pytest.mark.parametrize(
    "options, reason",
    [(["--weights", "a"], "1 for 2 configs"), (["--names", "x", "x"], "x, x: all names must be different")],
)
def test_choices_that_do_not_fit(options, reason, refused):
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
def test_in_a_browser(served, models, good, tmp_path):
    """A picture is dropped, seen, and looked at again with migration; nothing is asked of another host."""
    sync = pytest.importorskip("playwright.sync_api")
    address = served(models)
    asked, errors = [], []
    with sync.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 1000})
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(address)
        tab.locator("input[type=file]").first.set_input_files(str(good[0] / "plain.png"))
        tab.locator("#times").wait_for(timeout=60_000)
        assert "trunk" in tab.locator("#times").inner_text()
        drawn = tab.locator("#drawn img").first
        drawn.wait_for(timeout=60_000)
        assert drawn.evaluate("image => image.naturalWidth") == 640
        assert tab.locator("#tokens img").count() == 0
        keep = tab.get_by_label("token migration").first
        keep.fill("0.5")
        keep.press("Tab")
        tab.locator("#tokens img").first.wait_for(timeout=60_000)
        tab.screenshot(path=str(tmp_path / "page.png"), full_page=True)
        browser.close()
    hosts = {url.split("/")[2].split(":")[0] for url in asked if url.startswith(("http", "ws"))}
    assert hosts == {"127.0.0.1"} and not errors
    with Image.open(tmp_path / "page.png") as image:
        assert image.width == 1280
