"""A sweep's file in Hydra's syntax as a search of a tuning service: what becomes of each word, and what is refused."""

import re
from collections.abc import Callable

import hydra
import pytest
from hydra.errors import HydraException
from launcher.errors import UserError
from launcher.job import Parameter, Search
from launcher.project import project
from launcher.settings import schema
from launcher.settings.cli import explain
from launcher.sweeps import optuna as sweeper
from launcher.sweeps.search import for_launch, search_of
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

schema.register()
schema.register_resolver()

Read = Callable[..., tuple[Search, tuple[str, ...]]]


@pytest.fixture
def read() -> Read:
    """Reads the sweep `lr`, as `uv run launch cloud=vertex sweep=lr` with these words does."""

    def reading(*words: str, **params: object) -> tuple[Search, tuple[str, ...]]:
        argv, spaces = for_launch(["cloud=vertex", "sweep=lr", *words])
        with hydra.initialize_config_dir(str(project().configs), version_base="1.3"):
            whole = hydra.compose("launch", argv, return_hydra_config=True)
        if params:
            whole.hydra.sweeper.params = {key.replace("__", "."): each for key, each in params.items()}
        config = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
        return search_of(whole.hydra, config, spaces)

    return reading


def refused(read: Read, *words: str, **params: object) -> str:
    """Gives the sentence that a person would see."""
    with pytest.raises((UserError, HydraException, OmegaConfBaseException)) as error:
        read(*words, **params)
    return explain(error.value)


def test_without_a_sweep_the_words_stay_as_they_are():
    words = ["cloud=vertex", "optimizer.lr=0.1", "--cfg", "job"]
    assert for_launch(words) == (words, ())
    assert for_launch(["sweep=null", "optimizer.lr=0.1"])[1] == ()


def test_the_file_of_the_template_is_a_search(read):
    search, constants = read()
    assert search == Search(
        parameters=(
            Parameter("optimizer.lr", low=1e-4, high=1e-1, log=True),
            Parameter("model.width", choices=(16, 32)),
        ),
        objective="val/accuracy",
        maximize=True,
        trials=8,
    )
    assert constants == ("sweep=lr", "hydra.mode=RUN")


@pytest.mark.parametrize(
    ("space", "parameter"),
    [
        ("choice(8,16)", Parameter("model.width", (8, 16))),
        ("32,8,16", Parameter("model.width", (8, 16, 32))),
        ("range(8,12)", Parameter("model.width", low=8, high=12, integer=True)),
        ("range(8,32,8)", Parameter("model.width", (8, 16, 24, 32))),
        ("shuffle(range(8,32,8))", Parameter("model.width", (8, 16, 24, 32))),
        ("int(interval(8,64))", Parameter("model.width", low=8, high=64, integer=True)),
        (
            "tag(log,int(interval(8,64)))",
            Parameter("model.width", low=8, high=64, log=True, integer=True),
        ),
    ],
)
def test_each_word_of_the_syntax_becomes_a_parameter(read, space, parameter):
    assert read(f"model.width={space}")[0].parameters[1] == parameter


def test_ranges_of_numbers_have_the_values_that_are_meant(read):
    assert read("model.dropout=range(0.1,0.5,0.1)")[0].parameters[2].choices == (
        0.1,
        0.2,
        0.3,
        0.4,
        0.5,
    )
    assert read("model.dropout=interval(0,1)")[0].parameters[2] == Parameter("model.dropout", low=0, high=1)


def test_groups_and_words_can_be_chosen(read):
    assert read("scheduler=choice(constant,cosine)")[0].parameters[2].choices == (
        "constant",
        "cosine",
    )
    assert read("evaluate=choice(true,false)")[0].parameters[2].choices == (True, False)


def test_what_is_typed_wins_over_the_file(read):
    search, _ = read("optimizer.lr=0.01", "model.width=choice(8,24)")
    assert search.parameters == (Parameter("model.width", choices=(8, 24)),)


def test_a_constant_among_the_parameters_is_a_setting_of_each_trial(read):
    search, constants = read(optimizer__lr="interval(0.1,1)", model__width=8, seed="3")
    assert [each.name for each in search.parameters] == ["optimizer.lr"]
    assert constants == ("sweep=lr", "hydra.mode=RUN", "model.width=8", "seed=3")


@pytest.mark.parametrize(
    ("words", "parallel"),
    [
        ((), 1),
        (("hydra.sweeper.n_jobs=3",), 3),
        (("hydra.sweeper.n_jobs=3", "cloud.parallel=4"), 4),
        (("cloud.parallel=20",), 8),
    ],
)
def test_how_many_run_at_a_time(read, words, parallel):
    assert read(*words)[0].parallel == parallel


def test_samplers_are_algorithms(read, monkeypatch):
    assert read()[0].algorithm == "bayesian"
    assert read("hydra/sweeper/sampler=random")[0].algorithm == "random"


def test_a_grid_has_single_values_and_no_more_trials_than_points(read):
    grid = "hydra.sweeper.sampler._target_=optuna.samplers.GridSampler"
    search, _ = read(grid, "optimizer.lr=choice(0.1,0.01)")
    assert (search.algorithm, search.trials) == ("grid", 4)
    # Like the sweeper here, a grid leaves the end of a range out, and the others take it in.
    assert read(grid, "optimizer.lr=1", "model.width=range(8,24,8)")[0].parameters[0].choices == (
        8,
        16,
    )
    assert "optimizer.lr: a grid needs single values" in refused(read, grid)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model=glob(*)"], "model: .*glob.*choice"),
        (["model.width=choice([8],[16])"], "model.width: .*choices"),
        (["model.width=choice(8,wide)"], "model.width: .*choices"),
        (["optimizer.lr=tag(log,interval(0,1))"], "optimizer.lr: .*above 0"),
        (["optimizer.lr=interval(1,0.1)"], "optimizer.lr: .*smaller and a larger"),
        (["optimizer.lr=range(0,1,0.0001)"], "optimizer.lr: .*too fine.*interval"),
        (["model.width=sort(range(8,24),reverse=true)"], "model.width: .*goes down"),
        (["optimizer.lr=tag(log,range(1,9))"], "optimizer.lr: .*interval"),
        (["+new.setting=choice(1,2)"], r"\+new.setting cannot be searched for"),
        (["optimizer.lrr=choice(1,2)"], "no optimizer.lrr; did you mean optimizer.lr"),
        (["model.width=choice(a,b)"], "model.width=a is text; give a whole number"),
        (["scheduler=choice(constant,cosin)"], "no scheduler=cosin; there are constant, cosine"),
        (["hydra.sweeper.direction=[maximize,minimize]"], "hydra.sweeper.direction.*one objective"),
        (["hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0"),
        (["hydra.sweeper.custom_search_space=a.b"], "hydra.sweeper.custom_search_space"),
        (["hydra.sweeper.sampler._target_=a.CmaEsSampler"], "hydra.sweeper.sampler.*CmaEs.*tpe"),
        (["hydra/sweeper=basic", "~hydra.sweeper.sampler"], "hydra/sweeper"),
        (["objective=null"], "objective=None"),
        (["objective=1"], "objective=1 names no metric"),
        (["optimizer.lr=1", "model.width=8"], "Nothing is left"),
    ],
)
def test_what_a_tuning_job_cannot_do_is_refused_by_its_name(read, words, says):
    assert re.search(says, refused(read, *words))


def test_a_word_of_the_file_that_cannot_be_read_is_named(read):
    assert "optimizer.lr cannot be read" in refused(read, optimizer__lr="interval(1,")


def test_without_optuna_a_sweeps_file_is_still_read(read, monkeypatch):
    """The image that trains a trial does not hold the sweeper."""
    expected = read()
    stored: dict[str, object] = {}
    monkeypatch.setattr(sweeper, "find_spec", lambda name: None)
    with monkeypatch.context() as patch:
        patch.setattr(
            sweeper.ConfigStore,
            "store",
            lambda self, group, name, node: stored.update(**{f"{group}/{name}": node}),
        )
        sweeper.register()
    assert {"hydra/sweeper/optuna", "hydra/sweeper/sampler/tpe"} <= set(stored)
    repo = sweeper.ConfigStore.instance().repo["hydra"]
    kept = dict(repo["sweeper"])
    try:
        repo["sweeper"].pop("optuna.yaml")
        repo["sweeper"].pop("sampler")
        sweeper.register()
        assert read() == expected
    finally:
        repo["sweeper"].clear()
        repo["sweeper"].update(kept)
