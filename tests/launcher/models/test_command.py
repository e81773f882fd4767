"""What a person types about models, in a folder of its own; the export itself is the project's, and stands in here."""

import json
from pathlib import Path

import pytest
from launcher.commands import models
from launcher.errors import UserError
from launcher.models import places, register
from launcher.records import places as launched


@pytest.fixture
def runs(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two evaluated runs, the second of them worse, and no bucket."""
    monkeypatch.setattr(places, "bucket", lambda: None)
    here = [place for place in launched.places() if place.home == "runs"]
    monkeypatch.setattr(launched, "places", lambda: here)
    for name, accuracy in (("good", 0.9), ("worse", 0.8)):
        folder = project / "runs" / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps({"test/loss": 0.5, "test/accuracy": accuracy}))
        (folder / "run.json").write_text(json.dumps({"commit": "c" * 40, "starts": [{"torch": "2.15"}]}))
        (folder / "config.yaml").write_text("data: {_target_: demo.data.digits.OddDigits}\n")

    def export(run_id: str) -> Path:
        made = project / "runs" / run_id / "export"
        made.mkdir(exist_ok=True)
        (made / "model.onnx").write_text(run_id)
        one = {"name": "inputs", "dtype": "uint8", "shape": ["batch", 1, 8, 8]}
        signature = {"kind": "classification", "inputs": [one], "outputs": [one], "classes": ["even", "odd"]}
        (made / "signature.json").write_text(json.dumps(signature))
        (made / "parity.json").write_text(json.dumps({"test_data": "abc"}))
        (made / "config.yaml").write_text("monitor: {metric: val/accuracy, mode: max}\n")
        return made

    monkeypatch.setattr(register, "export", export)
    return project


def say(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import shlex

    monkeypatch.setattr("sys.argv", ["models", *shlex.split(words)])
    models.main()


def test_a_run_becomes_a_version_a_champion_and_is_replaced_by_a_better_one_only(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    say("register run=worse", monkeypatch)
    say("promote odd-digits@v1", monkeypatch)
    say("register run=good", monkeypatch)
    say("promote odd-digits@v2", monkeypatch)
    assert "odd-digits@champion is odd-digits@v2 now, and was v1." in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"test/accuracy 0\.8000, and 0\.9000 before"):
        say("promote odd-digits@v1", monkeypatch)
    say("rollback odd-digits", monkeypatch)
    say("show odd-digits", monkeypatch)
    shown = capsys.readouterr().out
    assert "odd-digits@champion is odd-digits@v1 again." in shown
    assert "| test/accuracy | 0.8000 |" in shown
    assert "classes: even, odd" in shown
    assert "rollback" in shown
    with pytest.raises(SystemExit, match="promote another version first"):
        say("remove odd-digits@v1", monkeypatch)
    say("remove odd-digits@v2", monkeypatch)
    say("list", monkeypatch)
    assert "odd-digits@v2" not in capsys.readouterr().out.partition("is removed")[2].partition("\n")[2]


def test_what_is_removed_here_asks_no_bucket_be_it_finished_or_not(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for words in ("register run=good name=digits", "register run=worse name=digits"):
        say(words, monkeypatch)
    (runs / "models/digits/v1/manifest.json").unlink()
    claim = runs / "models/digits/v1/claim.json"
    claim.write_text(json.dumps({**json.loads(claim.read_text()), "at": "2020-01-01T00:00:00+00:00"}))

    def asked() -> str:
        raise AssertionError("the bucket is asked")

    monkeypatch.setattr(places, "bucket", asked)
    say("remove digits@v1", monkeypatch)
    say("remove digits@v2", monkeypatch)
    said = capsys.readouterr().out
    assert "What was left of digits@v1, never finished, is removed from models." in said
    assert "digits@v2 is removed from models" in said
    assert not (runs / "models/digits/v2/model.onnx").exists()


def test_where_only_what_serves_is_installed_an_export_says_how_to_install_the_rest(
    project: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("launcher.project.find_root", lambda folder: project)
    (project / "src/demo").mkdir(parents=True, exist_ok=True)
    (project / "src/demo/export.py").write_text("import no_such_torch\n")
    said = r"Run good cannot be exported here \(.*'no_such_torch'\); install the project with `uv sync`"
    with pytest.raises(UserError, match=said):
        register.export("good")


def test_what_cannot_be_compared_with_the_champion_does_not_take_its_place_in_silence(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for words in ("register run=good", "promote odd-digits@v1", "register run=worse"):
        say(words, monkeypatch)
    (runs / "models/odd-digits/v1/manifest.json").unlink()
    with pytest.raises(SystemExit, match=r"odd-digits@v1, which is champion, cannot be read"):
        say("promote odd-digits@v2", monkeypatch)
    say("promote odd-digits@v2 force='the other is lost'", monkeypatch)
    assert "odd-digits@champion is odd-digits@v2 now, and was v1." in capsys.readouterr().out


def test_why_a_worse_one_was_taken_stands_in_the_history(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    say("register run=good name=digits", monkeypatch)
    say("register run=worse name=digits", monkeypatch)
    say("promote digits@1", monkeypatch)
    say("promote digits@2 force='it is smaller'", monkeypatch)
    say("show digits@v2", monkeypatch)
    assert "it is smaller" in capsys.readouterr().out


def test_a_reason_that_was_not_needed_stands_nowhere(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    say("register run=good name=digits", monkeypatch)
    say("promote digits@1 force='in any case'", monkeypatch)
    say("show digits", monkeypatch)
    assert "in any case" not in capsys.readouterr().out


def test_of_two_models_of_a_name_each_can_be_meant(
    runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(places, "bucket", lambda: str(tmp_path / "bucket/models"))
    say("register run=good name=digits", monkeypatch)
    say("register run=worse name=digits to=bucket", monkeypatch)
    capsys.readouterr()
    for name, metric in (
        ("digits@v1", "0.9000"),
        ("here:digits@v1", "0.9000"),
        ("bucket:digits@v1", "0.8000"),
    ):
        say(f"show {name}", monkeypatch)
        assert f"| test/accuracy | {metric} |" in capsys.readouterr().out
    say("promote bucket:digits@v1", monkeypatch)
    with pytest.raises(SystemExit, match="There is no model digits@champion"):
        say("show here:digits", monkeypatch)


def test_a_bucket_that_does_not_answer_is_said_beside_what_is_not_here(
    runs: Path, monkeypatch: pytest.MonkeyPatch
):
    say("register run=good name=digits", monkeypatch)
    monkeypatch.setattr(places, "bucket", lambda: "gone://bucket/models")
    say("show digits@v1", monkeypatch)  # which is here
    with pytest.raises(SystemExit, match=r"There is no model digits@v9 in models, and gone://bucket"):
        say("show digits@v9", monkeypatch)


def test_a_version_is_fetched_to_where_it_is_wanted(runs: Path, monkeypatch: pytest.MonkeyPatch):
    say("register run=good name=digits", monkeypatch)
    say("fetch digits@v1 to=out", monkeypatch)
    assert (runs / "out/model.onnx").read_text() == "good"
    assert "test/accuracy" in (runs / "out/README.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("register", "Say which: uv run models register run=ID"),
        ("register run=never", "There is no run never"),
        ("register run=good name=Odd_Digits", "can name no model"),
        ("register run=good to=moon", "no place for a model"),
        ("register run=good to=bucket", "where one is configured"),
        ("register runs=good", "is no setting of this command; it has run=..."),
        ("promote", "Say which: uv run models promote NAME"),
        ("promote nothing@v1", "There is no model nothing@v1"),
        ("promote digits", "There is no model digits"),
        ("show a b", "Name one model"),
        ("rollback digits@v1", "name an alias"),
        ("remove digits", "name the version to remove"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(
    runs: Path, monkeypatch: pytest.MonkeyPatch, words: str, said: str
):
    with pytest.raises(SystemExit) as ended:
        say(words, monkeypatch)
    assert said in str(ended.value)
    assert "\n" not in str(ended.value)
    assert not (runs / "models").exists()


def test_what_is_promoted_is_a_version(runs: Path, monkeypatch: pytest.MonkeyPatch):
    say("register run=good name=digits", monkeypatch)
    with pytest.raises(
        SystemExit, match=r"^Name the version to promote, as in digits@v1; `uv run models list"
    ):
        say("promote digits", monkeypatch)


def test_a_run_without_metrics_is_told_how_to_get_them(runs: Path):
    (runs / "runs/good/metrics.json").unlink()
    with pytest.raises(UserError, match="uv run evaluate run=good"):
        register.register("models", "digits", "good")


@pytest.mark.parametrize("name", ["serve:digits-v1", "serve@sha256:1", "a b@sha256:" + "1" * 64])
def test_an_image_that_is_not_named_by_its_digest_is_refused(
    name: str, runs: Path, monkeypatch: pytest.MonkeyPatch
):
    say("register run=good", monkeypatch)
    with pytest.raises(SystemExit, match=r"is no image by its digest"):
        say(f"deploy odd-digits@v1 to=local 'image={name}'", monkeypatch)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("deploy digits", "Say where: uv run models deploy digits to=local"),
        ("deploy to=local", "Say which"),
        ("undeploy digits to=nowhere", "to=nowhere is no place"),
        ("undeploy digits@v4 to=local", "digits@v4 is one version, .*; give digits"),
        ("rollback digits@v4 to=local", "digits@v4 is one version, .*; give digits"),
        ("image digits push=perhaps", "push=perhaps is neither true nor false"),
        ("image", "Say which"),
        ("mirror", "Say which"),
        ("mirror digits", "There is no model digits@champion"),
        ("image digits", "There is no model digits@champion"),
    ],
)
def test_what_is_missing_for_a_deployment_is_said(
    words: str, why: str, runs: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(SystemExit, match=why):
        say(words, monkeypatch)
