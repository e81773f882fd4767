"""The page in a real browser: what people do there, on a wide screen and a narrow one, by mouse and by keyboard."""

import contextlib
import io
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from launcher.serving.app import Service
from launcher.serving.model import Model
from launcher.serving.server import Server
from launcher.serving.settings import Settings
from model_files import make
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60_000  # milliseconds; a bound of what is never expected


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser of this machine, without a window."""
    program = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if not program:
        pytest.skip("there is no Chromium; Debian has it as `apt-get install chromium`")
    with sync_playwright() as playwright:
        # In a container, and as root, its own sandbox cannot be.
        found = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Serves models; gives the address of each."""
    with contextlib.ExitStack() as opened:
        yield lambda kind: opened.enter_context(serving(make(tmp_path / kind, kind), kind))


@contextlib.contextmanager
def serving(folder: Path, kind: str) -> Iterator[str]:
    service = Service(Model(folder, f"{kind}@v1"), Settings())
    service.warm_up()
    listening = socket.create_server(("127.0.0.1", 0))
    server = Server(uvicorn.Config(service.app(), log_level="warning"))
    server.service = service
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page on which nothing is complained of, and which asks for nothing elsewhere."""
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme="dark")
    context.set_default_timeout(PATIENCE)
    found, complaints, asked = context.new_page(), [], []
    found.on("console", lambda message: complaints.append(message.text))
    found.on("pageerror", lambda error: complaints.append(str(error)))
    found.on("request", lambda request: asked.append(request.url))
    yield found
    assert complaints == []
    assert not [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))]
    context.close()


def said(page: Page) -> Any:
    return expect(page.locator("#said"), "what the model says")


def picture(value: int) -> dict[str, Any]:
    file = io.BytesIO()
    Image.new("L", (40, 40), value).save(file, "PNG")
    return {"name": "a.png", "mimeType": "image/png", "buffer": file.getvalue()}


def test_what_is_drawn_is_classified(page: Page, served: Callable[[str], str]):
    page.goto(served("digits"))
    page.click("#go")
    said(page).to_have_text("dark", timeout=PATIENCE)
    box = page.locator("#draw").bounding_box()
    assert box
    for row in range(1, 10):  # until it is full
        page.mouse.move(box["x"] + 5, box["y"] + box["height"] * row / 10)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] * row / 10, steps=4)
        page.mouse.up()
    said(page).to_have_text("bright", timeout=PATIENCE)
    assert page.locator("#bars li").count() == 2
    page.click("#clear")
    said(page).to_have_text("", timeout=PATIENCE)


def test_an_image_that_is_chosen_gets_its_mask_laid_over(page: Page, served: Callable[[str], str]):
    page.goto(served("mask"))
    page.set_input_files("#file", files=[picture(255)])  # type: ignore[arg-type]
    said(page).to_have_text("The share of each class", timeout=PATIENCE)
    expect(page.locator("#answer")).to_be_visible(timeout=PATIENCE)
    assert "100.0 %" in page.locator("#bars").inner_text()


def test_shares_keep_the_order_of_the_classes_and_so_their_colours(page: Page, tmp_path: Path):
    folder = make(tmp_path / "mask", "mask")
    signature = json.loads((folder / "signature.json").read_text())
    # In an object of JavaScript a name that is a number comes first; what stands for the facts is a name like any other.
    signature["classes"] = ["@NAME@", "1"]
    (folder / "signature.json").write_text(json.dumps(signature))
    with serving(folder, "mask") as address:
        page.goto(address)
        page.set_input_files("#file", files=[picture(255)])  # type: ignore[arg-type]
        said(page).to_have_text("The share of each class", timeout=PATIENCE)
        assert page.locator("#bars li span:first-child").all_inner_texts() == ["@NAME@", "1"]
        assert page.locator("#bars li span:last-child").all_inner_texts() == ["0.0 %", "100.0 %"]


def test_a_row_is_filled_in_and_sent_by_keyboard(page: Page, served: Callable[[str], str]):
    page.goto(served("table"))
    page.focus("input[name=a]")
    page.keyboard.press("Control+A")
    page.keyboard.type("2.5")
    page.keyboard.press("Enter")
    said(page).to_have_text("-2.5, 0 m", timeout=PATIENCE)
    page.fill("input[name=b]", "")
    page.click("#go")
    said(page).to_have_text("b is empty.", timeout=PATIENCE)


def test_a_text_is_classified_and_one_without_words_is_explained(page: Page, served: Callable[[str], str]):
    page.goto(served("text"))
    page.fill("#text", "one two")
    page.click("#go")
    said(page).to_have_text("even", timeout=PATIENCE)


def test_all_else_is_sent_as_json(page: Page, served: Callable[[str], str]):
    page.goto(served("plain"))
    page.click("#go")
    expect(page.locator("#plain")).to_contain_text("predictions", timeout=PATIENCE)


@pytest.mark.parametrize("kind", ["digits", "table", "text"])
def test_nothing_is_wider_than_a_narrow_screen_and_every_control_has_a_name(
    page: Page, served: Callable[[str], str], kind: str
):
    page.goto(served(kind))
    width = page.locator("body").evaluate("body => body.scrollWidth")
    assert width <= 390
    for control in page.locator("button, input, textarea, canvas").all():
        if control.is_visible():
            named = control.evaluate(
                "e => e.ariaLabel || e.innerText || (e.labels && e.labels[0] && e.labels[0].innerText)"
            )
            assert named, control.evaluate("e => e.outerHTML")


def test_a_picture_of_the_page_shows_something(page: Page, served: Callable[[str], str]):
    page.goto(served("digits"))
    with Image.open(io.BytesIO(page.screenshot())) as shot:
        assert len(set(shot.convert("L").tobytes())) > 10
