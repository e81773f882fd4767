"""What is answered to whom: right predictions, in every form of an instance, and one sentence for anything else."""

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

Client = Callable[..., TestClient]


def png(value: int, size: tuple[int, int] = (8, 8), mode: str = "L", form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value,) * 3).save(file, form)
    return file.getvalue()


def b64(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


def grey(value: float) -> Any:
    return [[[value] * 8] * 8]


@pytest.mark.parametrize(
    ("instance", "expected"),
    [
        (grey(16), "bright"),
        (grey(0), "dark"),
        (b64(png(250)), "bright"),
        (b64(png(20, (640, 480))), "dark"),
        (b64(png(250, mode="RGB", form="JPEG")), "bright"),
    ],
    ids=["numbers", "dark numbers", "png", "another size", "a colour jpeg"],
)
def test_an_instance_is_classified_in_each_of_its_forms(client: Client, instance: Any, expected: str):
    answer = client("digits").post("/predict", json={"instances": [instance]})
    assert answer.status_code == 200
    (prediction,) = answer.json()["predictions"]
    assert prediction["class"] == expected
    assert sum(prediction["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert answer.json()["registry_version"] == "digits@v1"


def test_an_image_can_be_the_body_itself(client: Client):
    answer = client("digits").post("/invocations", content=png(250), headers={"Content-Type": "image/png"})
    assert answer.json()["predictions"][0]["class"] == "bright"


def test_a_batch_keeps_its_order(client: Client):
    values = [0, 16, 16, 0, 16]
    answer = client("digits").post("/score", json={"instances": [grey(value) for value in values]})
    assert [one["index"] for one in answer.json()["predictions"]] == [value // 16 for value in values]


def test_columns_are_taken_by_name_and_numbers_come_back_with_their_unit(client: Client):
    service = client("table")
    by_name = service.post("/predict", json={"instances": [{"b": 2, "a": 1.5}]}).json()
    as_list = service.post("/predict", json={"instances": [[1.5, 2]]}).json()
    assert by_name == as_list
    assert by_name["predictions"] == [{"values": [-1.5, -2.0], "unit": "m"}]


def test_texts_of_different_lengths_go_together(client: Client):
    instances = [{"text": "One"}, {"text": "two two two, zebra"}]
    answer = client("text").post("/predict", json={"instances": instances})
    assert answer.status_code == 200
    assert len(answer.json()["predictions"]) == 2


def test_a_mask_comes_back_as_a_picture_with_the_share_of_each_class(client: Client):
    half = np.zeros((8, 8), np.uint8)
    half[:, 4:] = 255
    file = io.BytesIO()
    Image.fromarray(half).save(file, "PNG")
    (found,) = (
        client("mask").post("/predict", json={"instances": [b64(file.getvalue())]}).json()["predictions"]
    )
    assert found["shares"] == {"dark": 0.5, "bright": 0.5}
    with Image.open(io.BytesIO(base64.b64decode(found["b64"]))) as mask:
        assert np.array_equal(np.asarray(mask), half // 255)


def test_a_map_comes_back_as_a_picture_of_16_bits_with_its_ends(client: Client):
    ramp = [[[4 * (8 * row + column) for column in range(8)] for row in range(8)]]
    (found,) = client("depth").post("/predict", json={"instances": [ramp]}).json()["predictions"]
    with Image.open(io.BytesIO(base64.b64decode(found["b64"]))) as image:
        pixels = np.asarray(image).astype(float)
    values = found["low"] + pixels / 65535 * (found["high"] - found["low"])
    assert np.allclose(values, np.array(ramp[0]) / 127.5, atol=1e-4)


def test_the_numbers_themselves_are_given_when_asked_for(client: Client):
    body = {"instances": [grey(16)], "parameters": {"arrays": True}}
    assert client("digits").post("/predict", json=body).json()["predictions"] == [
        {"predictions": [-8.0, 8.0]}
    ]


@pytest.mark.parametrize(
    ("instance", "said"),
    [
        (grey(17), "from 17 to 17, and not from 0 to 16"),
        (grey(-1), "no uint8 can hold"),
        (grey(300), "no uint8 can hold"),
        (grey(0.5), "which is no uint8"),
        ([[["1"] * 8] * 8], "a str in place of a uint8"),
        ([[[True] * 8] * 8], "a bool in place of a uint8"),
        ([[[None] * 8] * 8], "a NoneType in place of"),
        ([[[0] * 8] * 7], "a list of 7 where a list of 8 has to be"),
        ({"b64": 3}, "b64 is no text"),
        ({"b64": "%%"}, "not base64"),
        (b64(b"GIF89a"), "no whole image of PNG or JPEG"),
        (b64(png(0)[:45]), "no whole image"),
        ({"text": "three"}, "it has 'text', and the model takes"),
        ({}, "it has nothing"),
        ("x", "a str where a list of 1"),
        (7, "a int where a list of 1"),
    ],
)
def test_what_is_no_instance_is_refused_with_its_place_and_what_it_should_be(
    client: Client, instance: Any, said: str
):
    answer = client("digits").post("/predict", json={"instances": [grey(0), instance]})
    assert answer.status_code == 400
    assert "instances[1]: " in answer.json()["error"]
    assert said in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"null", 400),
        (b'{"instances": {}}', 400),
        (b'{"instances": []}', 400),
        (b'{"instances": [NaN]}', 400),
        (b'{"instances": [Infinity]}', 400),
        (b'{"instances": [[1e999, 1]]}', 400),
        (b'{"instances": ' + b"[" * 100_000, 400),
        (b'{"instances": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", 400),
        (b'{"instances": [[1, 2]], "more": 1}', 400),
        (b'{"instances": [[1, 2]], "parameters": {"arrays": 1}}', 400),
        (b'{"instances": [' + b"[1, 2]," * 64 + b"[1, 2]]}", 400),
        (b"\xff\xfe\x00", 400),
        (b" " * 1_500_001, 413),
    ],
    ids=range(15),
)
def test_a_body_that_is_no_request_is_refused(client: Client, body: bytes, status: int):
    answer = client("table").post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("kind", ["text/plain", "", "application/x-www-form-urlencoded", "image/gif"])
def test_other_types_of_content_are_refused(client: Client, kind: str):
    answer = client("table").post("/predict", content=b"[1]", headers={"Content-Type": kind})
    assert answer.status_code == 415


def test_an_image_of_too_many_pixels_is_refused_before_it_is_unpacked(client: Client):
    content = png(0, (5000, 4000))
    answer = client("digits").post("/predict", content=content, headers={"Content-Type": "image/png"})
    assert answer.status_code == 400
    assert "5000 x 4000 pixels" in answer.json()["error"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["b64", "text", "a", "b"]), inner)
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=JSON, kind=st.sampled_from(["digits", "table", "text", "plain"]))
def test_nothing_that_json_can_say_makes_it_fail(services: dict[str, TestClient], found: Any, kind: str):
    body = json.dumps({"instances": [found]}).encode()
    answer = services[kind].post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 400), answer.text


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 120), place=st.integers(0, 120), byte=st.integers(0, 255))
def test_no_broken_image_makes_it_fail(services: dict[str, TestClient], cut: int, place: int, byte: int):
    content = bytearray(png(100))
    content[place % len(content)] = byte
    body = bytes(content[: len(content) - cut % len(content)])
    answer = services["digits"].post("/predict", content=body, headers={"Content-Type": "image/png"})
    assert answer.status_code in (200, 400), answer.text


@pytest.fixture
def services(client: Client, request: pytest.FixtureRequest) -> dict[str, TestClient]:
    """One service of each kind."""
    return {kind: client(kind) for kind in ("digits", "table", "text", "plain")}
