"""A mistake in the configuration is found before anything is trained, in one sentence."""

import re
import subprocess
import sys

import pytest
from launcher import UserError

REFUSED = [
    ("trainer.max_epochs=abc", "trainer.max_epochs: Value 'abc'"),
    ("model.wdith=3", "There is no model.wdith; did you mean model.width?"),
    ("experiment=shapes_unett", "There is no experiment=shapes_unett; did you mean shapes_unet?"),
    ("trainer.precision=fp8", "expected one of [fp32, bf16, fp16]"),
    ("model.width=3.5", "model.width=3.5 is a number; give a whole number"),
    ("restore.mode=both", "restore.mode=both is unknown; choose of continue, weights."),
    ("+trainer.max_epoch=9", "There is no trainer.max_epoch; did you mean trainer.max_epochs?"),
    ("model=null", "model=null names no file; give model="),
    ("data.classes=1", "data.classes=1 is too small; the least is 2."),
    ("tracking.project=a/b", "tracking.project=a/b cannot name a project of wandb"),
]


@pytest.mark.parametrize(("override", "sentence"), REFUSED, ids=[name for name, _ in REFUSED])
def test_a_mistake_is_one_sentence_and_imports_no_torch(tmp_path, override, sentence):
    program = (
        "import sys; from {{ cookiecutter.package_name }}.train import main\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, override],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("optimizer.lr=fast", "optimizer.lr=fast is text; give a number"),
        ("trainer.batch_size=0", "the least is 1"),
        ("trainer.accumulate=3", "equal parts"),
        ("trainer.clip_norm=0", "trainer.clip_norm=0.0 leaves nothing of a gradient"),
        ("optimizer.lr=nan", "optimizer.lr=nan is no number"),
        ("optimizer.lr=-1", "optimizer.lr=-1 is too small; the least is 0."),
        ("optimizer.weight_decay=-1e-2", "optimizer.weight_decay=-0.01 is too small"),
        ("scheduler.warmup=2", "scheduler.warmup=2 is too large; the most is 1."),
        ("data.fraction=1.5", "data.fraction=1.5 is too large; the most is 1."),
        ("seed=99999999999999999999", "seed=99999999999999999999 is too large"),
        ("data.seed=-1", "data.seed=-1 is too small"),
        ("data.fraction=0", "data.fraction=0 leaves nothing to train on"),
        (
            "optimizer.groups=[{names: 'features.*'}]",
            "optimizer.groups[0].names=features.* is no list; give names: ['features.*'] there.",
        ),
        ("optimizer.groups=[{lr: -1}]", "optimizer.groups[0].lr=-1 is too small"),
        ("optimizer.groups=[{max_dims: 1, weight_decay: -1.0}]", "groups[0].weight_decay=-1.0 is"),
        ("optimizer.groups=[3]", "optimizer.groups[0]=3 is no mapping"),
        ("trainer.device=tpu", "choose of auto, cpu, cuda, mps"),
        ("trainer.compile=true", "choose of null, default, reduce-overhead, max-autotune"),
        ("monitor.metric=val/acuracy", "choose one of val/loss, val/accuracy"),
        ("objective=accuracy", "objective=accuracy is not measured"),
        ("run.id=a/b", "run.id=a/b cannot name a run"),
        ("+data.clases=3", "does not take it; did you mean classes?"),
        ("~data._target_", "data has no _target_"),
        ("~model.width", "model lacks width, which CNN"),
    ],
)
def test_values_that_cannot_work_are_refused(small_config, override, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        small_config(override)


def test_a_whole_number_is_taken_where_a_number_is_wanted(small_config):
    assert small_config("optimizer.lr=1").optimizer.lr == 1


def test_help_shows_the_settings_with_their_comments_and_the_choices(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "{{ cookiecutter.package_name }}.train", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "the same id again continues the same run" in done.stdout
    assert re.search(r"experiment=(\w+ \| )*digits_cnn", done.stdout)
