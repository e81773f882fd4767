"""Predictions of many inputs: each once, bad ones listed, in folders and in a bucket alike."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from launcher.commands import predict as command
from launcher.errors import UserError
from launcher.serving import batch
from launcher.serving.model import Model
from model_files import make
from PIL import Image


def image(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    Image.new("L", (8, 8), value).save(file, "PNG")
    path.write_bytes(file.getvalue())


def rows(output: Path) -> dict[str, dict]:
    """What is there: file (and line) -> its line."""
    found = {}
    for path in (output / "predictions").glob("*.jsonl"):
        for text in path.read_text().splitlines():
            row = json.loads(text)
            found[f"{row['file']}:{row['line']}" if "line" in row else row["file"]] = row
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Five images, of which one is none, in two folders."""
    folder = tmp_path / "in"
    for number, value in enumerate([0, 250, 250, 0]):
        image(folder / f"{'ab'[number % 2]}/{number}.png", value)
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not an input")
    return folder


def test_every_input_is_predicted_and_bad_ones_are_listed(
    model: Callable[[str], Model], source: Path, tmp_path: Path
):
    tally = batch.predict(model("digits"), str(source), str(tmp_path / "out"))
    assert (tally.done, tally.before, [row["file"] for row in tally.bad]) == (4, 0, ["broken.png"])
    found = rows(tmp_path / "out")
    assert {name: row.get("class") for name, row in found.items()} == {
        "a/0.png": "dark",
        "b/1.png": "bright",
        "a/2.png": "bright",
        "b/3.png": "dark",
        "broken.png": None,
    }


def test_what_is_done_is_not_done_again_and_what_has_come_is(
    model: Callable[[str], Model], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    output = str(tmp_path / "out")
    batch.predict(model("digits"), str(source), output)
    image(source / "a/00-before-all-others.png", 250)
    loaded, seen = model("digits"), []
    decode = loaded.inputs.decode
    monkeypatch.setattr(loaded.inputs, "decode", lambda content: seen.append(1) or decode(content))
    tally = batch.predict(loaded, str(source), output)
    assert (tally.done, tally.before, len(seen)) == (1, 5, 1)
    assert len(rows(tmp_path / "out")) == 6


def test_killed_between_two_parts_it_goes_on_with_the_second(
    model: Callable[[str], Model], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(batch, "PART", 2)
    written: list[str] = []
    write = batch.write_text

    def once(uri: str, text: str, new: bool = False) -> None:
        if "predictions/" in uri and written:
            raise KeyboardInterrupt
        written.extend([uri] if "predictions/" in uri else [])
        write(uri, text, new)

    monkeypatch.setattr(batch, "write_text", once)
    with pytest.raises(KeyboardInterrupt):
        batch.predict(model("digits"), str(source), str(tmp_path / "out"))
    monkeypatch.setattr(batch, "write_text", write)
    tally = batch.predict(model("digits"), str(source), str(tmp_path / "out"))
    assert tally.before == 2
    assert len(rows(tmp_path / "out")) == 5


def test_lines_are_instances_each_with_its_number(model: Callable[[str], Model], tmp_path: Path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"a": 1, "b": 2}\n\n{"a": 1}\nno json\n[3, 4]\n')
    tally = batch.predict(model("table"), str(file), str(tmp_path / "out"))
    found = rows(tmp_path / "out")
    assert (tally.done, len(tally.bad)) == (2, 2)
    assert found["rows.jsonl:1"]["values"] == [-1.0, -2.0]
    assert found["rows.jsonl:5"]["values"] == [-3.0, -4.0]
    assert "it has 'a'" in found["rows.jsonl:3"]["error"]
    assert "no JSON" in found["rows.jsonl:4"]["error"]


def test_single_files_of_other_names_have_predictions_of_their_own(
    model: Callable[[str], Model], source: Path, tmp_path: Path
):
    output = tmp_path / "out"
    for name in ("a/0.png", "b/1.png", "a/0.png"):
        tally = batch.predict(model("digits"), f"{source}/{name}", str(output))
    assert (tally.done, tally.before) == (0, 1)
    assert {name: row["class"] for name, row in rows(output).items()} == {"0.png": "dark", "1.png": "bright"}


def test_pictures_are_files_beside_the_predictions(
    model: Callable[[str], Model], source: Path, tmp_path: Path
):
    batch.predict(model("mask"), str(source), str(tmp_path / "out"))
    found = rows(tmp_path / "out")["a/0.png"]
    assert found["shares"] == {"dark": 1.0, "bright": 0.0}
    with Image.open(tmp_path / "out" / found["picture"]) as picture:
        assert picture.size == (8, 8)


def test_predictions_of_another_model_are_not_gone_on_with(
    model: Callable[[str], Model], source: Path, tmp_path: Path
):
    batch.predict(model("digits"), str(source), str(tmp_path / "out"))
    with pytest.raises(UserError, match="predictions of digits@v1, and this is mask@v1"):
        batch.predict(model("mask"), str(source), str(tmp_path / "out"))


def test_weights_that_have_no_name_are_told_apart(
    model: Callable[[str], Model], source: Path, tmp_path: Path
):
    batch.predict(model("digits"), str(source), str(tmp_path / "out"))
    other = Model(make(tmp_path / "other", "depth"), "digits@v1")
    with pytest.raises(UserError, match="or other weights of it"):
        batch.predict(other, str(source), str(tmp_path / "out"))


def test_of_two_models_that_take_an_output_at_once_one_is_refused(
    model: Callable[[str], Model], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    read, seen = batch.read_text, []

    def late(uri: str) -> str | None:
        text = read(uri)
        if not seen:
            seen.append(uri)
            batch.predict(model("mask"), str(source), str(tmp_path / "out"))
        return text

    monkeypatch.setattr(batch, "read_text", late)
    with pytest.raises(UserError, match="predictions of mask@v1, and this is digits@v1"):
        batch.predict(model("digits"), str(source), str(tmp_path / "out"))


@pytest.mark.parametrize("where", ["in", "in/out", "in/../in/out"])
def test_an_output_among_the_inputs_is_refused(
    model: Callable[[str], Model], source: Path, tmp_path: Path, where: str
):
    with pytest.raises(UserError, match="whose files are the inputs"):
        batch.predict(model("digits"), str(source), str(tmp_path / where))
    batch.predict(model("digits"), str(source), str(tmp_path / "in-out"))


def test_lines_end_where_json_lines_do_and_not_at_what_a_text_may_hold(
    model: Callable[[str], Model], tmp_path: Path
):
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "one\u2028two"}\n{"text": "one\x85two"}\n', encoding="utf-8")
    tally = batch.predict(model("text"), str(file), str(tmp_path / "out"))
    assert (tally.done, tally.bad) == (2, [])


def test_one_that_the_model_cannot_compute_with_stops_no_others(
    model: Callable[[str], Model], tmp_path: Path
):
    file = tmp_path / "rows.jsonl"
    file.write_text(f"[1]\n[99]\n[2, 3]\n[{10**400}]\n")
    tally = batch.predict(model("words"), str(file), str(tmp_path / "out"))
    assert (tally.done, [row["line"] for row in tally.bad]) == (2, [2, 4])


def test_a_name_that_leads_out_of_the_folder_is_an_error_of_its_own(
    model: Callable[[str], Model], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(batch, "find", lambda *_: ["a/0.png", "a/../../x.png"])
    image(tmp_path / "x.png", 0)
    tally = batch.predict(model("mask"), str(source), str(tmp_path / "out"))
    assert (tally.done, [row["error"] for row in tally.bad]) == (1, ["its name leads out of the folder"])


def test_nothing_to_predict_from_is_said_and_leaves_nothing(model: Callable[[str], Model], tmp_path: Path):
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match="nothing to predict from"):
        batch.predict(model("digits"), str(tmp_path / "in"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_program_says_what_could_not_be_read_and_ends_with_1(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = make(tmp_path / "model", "digits")
    with pytest.raises(UserError, match="1 inputs could not be read"):
        command.run([f"folder={folder}", f"input={source}", f"output={tmp_path / 'out'}"])
    said = capsys.readouterr()
    assert "4 predictions" in said.out
    assert "not predicted: broken.png: it is no whole image" in said.err


def test_an_attempt_after_another_ends_as_one_that_did_it_all(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = [f"folder={make(tmp_path / 'model', 'digits')}", f"input={source}", f"output={tmp_path / 'out'}"]
    with pytest.raises(UserError):
        command.run(words)
    capsys.readouterr()
    with pytest.raises(UserError, match="1 inputs could not be read"):
        command.run(words)
    said = capsys.readouterr()
    assert "0 predictions, of 5 files there were some before" in said.out
    assert "not predicted: broken.png: it is no whole image" in said.err


def test_a_single_file_is_not_one_of_those_that_are_predicted_once(source: Path, tmp_path: Path):
    words = [f"folder={make(tmp_path / 'model', 'digits')}", f"output={tmp_path / 'out'}", "once=true"]
    with pytest.raises(UserError, match="is a file"):
        command.run([*words, f"input={next(source.glob('*.png'))}"])
    assert not (tmp_path / "out").exists()


def test_what_could_not_be_read_one_night_is_no_fault_of_the_next(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    words = [f"folder={make(tmp_path / 'model', 'digits')}", f"input={source}", f"output={tmp_path / 'out'}"]
    for _ in range(2):  # of the same job
        monkeypatch.setenv("RUN_ID", "first")
        with pytest.raises(UserError, match="1 inputs could not be read"):
            command.run([*words, "once=true"])
    monkeypatch.setenv("RUN_ID", "second")
    command.run([*words, "once=true"])
    monkeypatch.delenv("RUN_ID")
    command.run([*words, "once=true"])


@pytest.mark.parametrize("words", [[], ["input=x"], ["digits", "input=x", "output=y"], ["inptu=x"]])
def test_words_that_mean_nothing_are_refused(words: list[str]):
    with pytest.raises(UserError):
        command.run(words)
