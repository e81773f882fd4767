"""What could make a service fail, stop answering, or take more memory than there is."""

import asyncio
import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from launcher.errors import UserError
from launcher.serving import app as serving
from launcher.serving import images, inputs
from launcher.serving import settings as reading
from launcher.serving.images import InputError
from launcher.serving.model import Model
from launcher.serving.outputs import Outputs
from model_files import make
from PIL import Image
from starlette.testclient import TestClient

Client = Callable[..., TestClient]
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("kind", ["digits", "table", "text", "plain", "words"])
def test_a_number_that_no_type_can_hold_is_refused(client: Client, kind: str):
    huge = [[[10**400] * 8] * 8] if kind == "digits" else [10**400, 1]
    answer = client(kind).post("/predict", json={"instances": [huge]})
    assert (answer.status_code, "that no" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize("word", [4, -5, 10**12])
def test_a_number_of_no_word_is_refused_and_not_told_in_the_log(
    client: Client, caplog: pytest.LogCaptureFixture, word: int
):
    answer = client("words").post("/predict", json={"instances": [[1, word]]})
    assert (answer.status_code, "cannot compute with this" in answer.json()["error"]) == (400, True)
    assert str(word) not in caplog.text


def test_texts_that_are_too_long_when_filled_up_are_refused(client: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inputs, "MOST_FREE", 20)
    service = client("text")
    fits, long = {"text": "one " * 10}, {"text": "one " * 11}
    assert service.post("/predict", json={"instances": [fits, {"text": "two"}]}).status_code == 200
    answer = service.post("/predict", json={"instances": [long, {"text": "two"}]})
    assert (answer.status_code, "too long together" in answer.json()["error"]) == (400, True)


def test_a_mask_of_another_length_than_its_text_is_refused():
    text = {"tokens": "tokens", "mask": "mask", "padding": 0}
    takes = [("tokens", "int64"), ("mask", "bool")]
    one = [{"name": name, "dtype": dtype, "shape": ["batch", "any"]} for name, dtype in takes]
    with pytest.raises(InputError, match="mask and tokens differ in length"):
        inputs.Inputs({"inputs": one, "text": text}).read({"tokens": [3, 4], "mask": [True]})


def test_an_answer_of_too_many_numbers_is_refused_before_it_is_computed(client: Client):
    service = client("mask", values=200)
    dark = [[[0] * 8] * 8]
    body = {"instances": [dark, dark], "parameters": {"arrays": True}}
    answer = service.post("/predict", json=body)
    assert (answer.status_code, "have 256 numbers" in answer.json()["error"]) == (400, True)
    assert service.post("/predict", json={"instances": [dark, dark]}).status_code == 200
    assert service.post("/predict", json=body | {"instances": [dark]}).status_code == 200


def test_answers_are_written_in_the_pool_and_one_by_one(client: Client, monkeypatch: pytest.MonkeyPatch):
    service, written = client("table"), []
    dumps = json.dumps

    def noting(value: Any, **how: Any) -> str:
        written.extend([threading.current_thread().name] if "values" in value else [])
        return dumps(value, **how)

    monkeypatch.setattr(serving.json, "dumps", noting)
    answer = service.post("/predict", content=b'{"instances": [[1, 2], [3, 4]]}', headers=JSON)
    assert [one["values"] for one in answer.json()["predictions"]] == [[-1, -2], [-3, -4]]
    assert [name.startswith("predict") for name in written] == [True, True]


async def ask(app: Any, parts: list[bytes], end: bool = True) -> int:
    """The status of a request whose body comes in these parts, and then ends or never does."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages += [{"type": "http.request", "body": b""}] if end else []
    status = []

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        status.append(message.get("status"))

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers, "query_string": b""}
    await app(scope, receive, send)
    return status[0]


async def beside_slow_ones(app: Any, begun: bytes) -> int:
    """The status of a good request while as many as there are places have sent a part of theirs, and no more."""
    slow = [asyncio.create_task(ask(app, [begun], end=False)) for _ in range(2)]
    for _ in range(20):
        await asyncio.sleep(0)
    status = await ask(app, [b'{"instances": ', b"[[1, 2]]}"])
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    return status


def test_who_sends_slowly_takes_no_place_of_the_queue(client: Client):
    service = client("table", workers=1, queue=1, body=50).service  # type: ignore[attr-defined]
    assert asyncio.run(beside_slow_ones(service.app(), b"{")) == 200


def test_what_has_arrived_of_all_bodies_together_has_a_limit(client: Client):
    service = client("table", workers=1, queue=1, body=50).service  # type: ignore[attr-defined]
    assert asyncio.run(beside_slow_ones(service.app(), b" " * 50)) == 503
    assert service._held == 0


@pytest.mark.parametrize(("method", "route", "status"), [("get", "/nowhere", 404), ("get", "/predict", 405)])
def test_all_that_is_refused_is_told_in_one_form(client: Client, method: str, route: str, status: int):
    answer = getattr(client("table"), method)(route)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert "x-request-id" in answer.headers


def test_numbers_that_are_none_decide_nothing():
    given = {"name": "predictions", "dtype": "float32", "shape": ["batch", 2]}
    outputs = Outputs({"kind": "classification", "outputs": [given], "classes": ["a", "b"]})
    (found,) = outputs.predictions([np.array([[np.nan, 1]], np.float32)])
    assert found == {"class": None, "index": None, "probabilities": [None, None]}


def test_a_mask_of_more_classes_than_a_byte_has_keeps_them_apart():
    given = {"name": "predictions", "dtype": "float32", "shape": ["batch", 300, 1, 2]}
    outputs = Outputs({"kind": "segmentation", "outputs": [given]})
    scores = np.zeros((1, 300, 1, 2), np.float32)
    scores[0, 299, 0, 0] = scores[0, 3, 0, 1] = 1
    (found,) = outputs.predictions([scores])
    with Image.open(io.BytesIO(inputs._from_base64(found["b64"]))) as mask:
        assert np.asarray(mask).tolist() == [[299, 3]]


def test_an_image_of_16_bits_keeps_its_brightness():
    file = io.BytesIO()
    Image.fromarray(np.array([[0, 257, 128 * 257, 65535]], np.uint16)).save(file, "PNG")
    assert images.read(file.getvalue(), 1, 1, 4).tolist() == [[[0, 1, 128, 255]]]


def test_a_photograph_is_turned_as_its_camera_was_held():
    image, exif, file = Image.new("L", (16, 8), 0), Image.Exif(), io.BytesIO()
    image.paste(255, (0, 0, 8, 8))
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    image.save(file, "JPEG", exif=exif, quality=100)
    pixels = images.read(file.getvalue(), 1, 16, 8)[0]
    assert (pixels[:8].min() > 200, pixels[8:].max() < 55) == (True, True)


def test_a_folder_is_served_only_as_its_manifest_says(tmp_path: Path):
    folder = make(tmp_path / "table", "table")
    files = {name: {"sha256": "0" * 64} for name in ("model.onnx", "signature.json")}
    manifest = {"name": "table", "number": 3, "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="is not what its manifest says"):
        Model(folder)


@pytest.mark.parametrize(
    ("name", "text"), [("model.onnx", "no model"), ("signature.json", "{}"), ("manifest.json", "{}")]
)
def test_a_folder_of_something_else_is_one_sentence(tmp_path: Path, name: str, text: str):
    folder = make(tmp_path / "table", "table")
    (folder / name).write_text(text)
    with pytest.raises(UserError, match="holds no model"):
        Model(folder)


def test_a_model_that_cannot_compute_with_its_own_example_is_not_served(tmp_path: Path):
    folder = make(tmp_path / "table", "table")
    signature = json.loads((folder / "signature.json").read_text())
    signature["inputs"][0]["shape"], signature["columns"] = ["batch", 3], []
    (folder / "signature.json").write_text(json.dumps(signature))
    with pytest.raises(UserError, match="with an example of its own signature"):
        Model(folder).warm_up()


@pytest.mark.parametrize(
    ("name", "text"), [("PORT", "99999"), ("AIP_PREDICT_ROUTE", "predict"), ("AIP_HEALTH_ROUTE", "/{x}")]
)
def test_a_port_or_a_route_that_is_none_is_refused(name: str, text: str):
    with pytest.raises(UserError, match=name):
        reading.read({name: text})
