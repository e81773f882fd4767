"""Sweeps as tuning jobs of SageMaker: what is asked for, and what the service cannot express."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from launcher.errors import UserError
from launcher.job import Parameter
from launcher.worker.tuning import LogChannel
from sagemaker_jobs import IMAGE, SEARCH, backend, job, sweep
from stage.aws.shapes import check, model

pytestmark = pytest.mark.cloud("aws")


def request(**changes: Any) -> dict[str, Any]:
    found = backend().request(sweep(replace(SEARCH, **changes)))
    check(model("sagemaker").operation_model("CreateHyperParameterTuningJob"), found)
    return found


def ranges(*parameters: Parameter, **changes: Any) -> Any:
    return request(parameters=parameters, **changes)["HyperParameterTuningJobConfig"]["ParameterRanges"]


def test_a_request_is_exactly_what_the_service_documents():
    found, training = request(), backend().request(job())
    definition = found["TrainingJobDefinition"]
    assert definition.pop("AlgorithmSpecification") == {
        "TrainingImage": IMAGE,
        "TrainingInputMode": "File",
        "MetricDefinitions": [
            {"Name": "val/accuracy", "Regex": "sweep objective=([-+.0-9eE]+) of "},
        ],
    }
    arguments = definition.pop("StaticHyperParameters")
    assert {name: json.loads(text) for name, text in arguments.items()} == {
        "launcher.arguments": ["trainer.max_epochs=2", "run.id=run-1"]
    }
    assert definition.pop("Environment") == {**training["Environment"], "RUN_DIRECTION": "maximize"}
    same = ("RoleArn", "OutputDataConfig", "ResourceConfig", "StoppingCondition", "RetryStrategy")
    assert definition == {name: training[name] for name in (*same, "EnableManagedSpotTraining")}
    assert found["Tags"] == training["Tags"]
    assert found["HyperParameterTuningJobConfig"] == {
        "Strategy": "Bayesian",
        "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "val/accuracy"},
        "ResourceLimits": {
            "MaxNumberOfTrainingJobs": 5,
            "MaxParallelTrainingJobs": 2,
            "MaxRuntimeInSeconds": 3 * (5400 + 24 * 3600 + 900),
        },
        "ParameterRanges": {
            "ContinuousParameterRanges": [
                {
                    "Name": "optimizer.lr",
                    "MinValue": "0.0001",
                    "MaxValue": "0.1",
                    "ScalingType": "Logarithmic",
                }
            ],
            "IntegerParameterRanges": [
                {"Name": "model.depth", "MinValue": "1", "MaxValue": "4", "ScalingType": "Linear"}
            ],
            "CategoricalParameterRanges": [
                {"Name": "model.width", "Values": ["16", "32"]},
                {"Name": "scheduler", "Values": ["cosine", "a b"]},
                {"Name": "evaluate", "Values": ["true", "false"]},
            ],
        },
        "TrainingJobEarlyStoppingType": "Off",
    }


@pytest.mark.parametrize(("algorithm", "sent"), [("random", "Random"), ("bayesian", "Bayesian")])
def test_algorithms_have_the_services_names(algorithm, sent):
    found = request(algorithm=algorithm, maximize=False)
    assert found["HyperParameterTuningJobConfig"]["Strategy"] == sent
    objective = found["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
    assert objective["Type"] == "Minimize"
    assert found["TrainingJobDefinition"]["Environment"]["RUN_DIRECTION"] == "minimize"


def test_a_grid_has_words_only_and_all_of_its_points():
    depth, width = Parameter("depth", low=1, high=3, integer=True), Parameter("width", choices=(0.5, 1.0))
    found = request(parameters=(depth, width), algorithm="grid", trials=6)
    config = found["HyperParameterTuningJobConfig"]
    assert config["ParameterRanges"] == {
        "CategoricalParameterRanges": [
            {"Name": "depth", "Values": ["1", "2", "3"]},
            {"Name": "width", "Values": ["0.5", "1.0"]},
        ]
    }
    assert config["ResourceLimits"]["MaxNumberOfTrainingJobs"] == 6
    with pytest.raises(UserError, match=r"hydra\.sweeper\.n_trials=5: SageMaker tries all 6 points"):
        request(parameters=(depth, width), algorithm="grid", trials=5)


def test_words_that_hydra_would_read_as_something_else_are_quoted():
    [words] = ranges(Parameter("a", choices=("plain", "null", "1e5", "x,y")))["CategoricalParameterRanges"]
    assert words["Values"] == ["plain", "'null'", "'1e5'", "'x,y'"]


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ((Parameter("a", choices=tuple(range(31))),), r"^a: .*up to 30 values.*31; write fewer, or interval"),
        ((Parameter("a", choices=tuple("abcdefghijklmnopqrstuvwxyz12345")),), "^a: .*31; write fewer\\."),
        (tuple(Parameter(f"a{n}", choices=(1, 2)) for n in range(31)), r"^a30: .*up to 30 settings"),
        ((Parameter("a", choices=("it's", "x")),), "leave quotes"),
    ],
)
def test_what_the_service_cannot_express_is_refused_by_its_key(parameters, says):
    with pytest.raises(UserError, match=says):
        request(parameters=parameters)


def test_whole_numbers_may_be_looked_for_by_their_magnitude():
    found = ranges(Parameter("a", low=1, high=1024, log=True, integer=True))
    [range_] = found["IntegerParameterRanges"]
    assert (range_["MaxValue"], range_["ScalingType"]) == ("1024", "Logarithmic")


def test_arguments_that_are_too_long_for_one_setting_travel_by_the_bucket():
    args = tuple(f"setting_{number}={'x' * 50}" for number in range(50))
    wanted = sweep(args=args)
    definition = backend().request(wanted)["TrainingJobDefinition"]
    assert "StaticHyperParameters" not in definition
    assert definition["Environment"]["RUN_MORE"] == "s3://demo-bucket/runs/run-1/arguments.json"
    assert json.loads(backend()._hand(wanted).more)["args"] == list(args)


def test_the_longest_time_is_within_the_services_bounds():
    found = backend().request(sweep(replace(SEARCH, trials=700, parallel=1), max_hours=400))
    limits = found["HyperParameterTuningJobConfig"]["ResourceLimits"]
    assert limits["MaxRuntimeInSeconds"] == 15_768_000


@pytest.mark.parametrize("value", [0.75, -1e-05, 3e20, 0.0])
def test_the_service_finds_what_a_trial_prints(capsys, value):
    LogChannel().tell(3, "val/accuracy", [(10, value)])
    [metric] = request()["TrainingJobDefinition"]["AlgorithmSpecification"]["MetricDefinitions"]
    found = re.search(metric["Regex"], capsys.readouterr().out)
    assert found
    assert float(found[1]) == value
