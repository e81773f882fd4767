"""The stand-in for SageMaker's tuning jobs refuses and does what the service does."""

from collections.abc import Iterator
from typing import Any

import pytest

from stage import aws
from stage.aws.bench import client, refused, role, training
from stage.one_field import REMOVED, with_field


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[aws.World]:
    with aws.serve(tmp_path_factory.mktemp("aws")) as world:
        role(world, "demo-trainer", "sagemaker.amazonaws.com")
        world.quotas.set("ml.m7i.2xlarge for training job usage", 1000)
        yield world


@pytest.fixture(scope="module")
def sagemaker(world: aws.World) -> Any:
    return client(world, "sagemaker")


@pytest.fixture(scope="module")
def request_(world: aws.World) -> dict[str, Any]:
    job = training(world.push("demo/train"))
    names = ("RoleArn", "OutputDataConfig", "ResourceConfig", "StoppingCondition", "Environment")
    definition = {name: job[name] for name in names}
    definition["AlgorithmSpecification"] = {
        "TrainingImage": job["AlgorithmSpecification"]["TrainingImage"],
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": "val/accuracy", "Regex": "objective=([-+0-9.eE]+)"}],
    }
    definition["StaticHyperParameters"] = {"overrides": "[]"}
    ranges = {
        "ContinuousParameterRanges": [
            {"Name": "optimizer.lr", "MinValue": "1e-4", "MaxValue": "1e-1", "ScalingType": "Logarithmic"}
        ],
        "IntegerParameterRanges": [{"Name": "model.depth", "MinValue": "1", "MaxValue": "8"}],
        "CategoricalParameterRanges": [{"Name": "optimizer", "Values": ["adamw", "sgd"]}],
    }
    return {
        "HyperParameterTuningJobName": "demo-sweep",
        "HyperParameterTuningJobConfig": {
            "Strategy": "Random",
            "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "val/accuracy"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 3, "MaxParallelTrainingJobs": 2},
            "ParameterRanges": ranges,
        },
        "TrainingJobDefinition": definition,
        "Tags": [{"Key": "project", "Value": "demo"}],
    }


CONFIG, TRIAL = "HyperParameterTuningJobConfig", "TrainingJobDefinition"
LR = f"{CONFIG}.ParameterRanges.ContinuousParameterRanges.0"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("HyperParameterTuningJobName", "a" * 33, "hyperParameterTuningJobName"),
        ("HyperParameterTuningJobName", "a_b", "hyperParameterTuningJobName"),
        (TRIAL, REMOVED, "TrainingJobDefinition"),
        (f"{TRIAL}.ResourceConfig", REMOVED, "ResourceConfig"),
        (f"{TRIAL}.Environment", {f"K{i}": "" for i in range(49)}, "environment"),
        (f"{TRIAL}.Environment.RUN_ID", "a" * 513, "environment"),
        (f"{TRIAL}.StaticHyperParameters.overrides", "a" * 2501, "staticHyperParameters"),
        (f"{TRIAL}.StaticHyperParameters.overrides", 1, "string"),
        (f"{TRIAL}.StaticHyperParameters", {"optimizer": "a"}, "different from each other"),
        (f"{TRIAL}.AlgorithmSpecification.MetricDefinitions", [], "A metric is required"),
        (f"{TRIAL}.AlgorithmSpecification.MetricDefinitions.0.Regex", "a" * 501, "regex"),
        (f"{TRIAL}.AlgorithmSpecification.TrainingImage", "nothing", "Cannot find the requested image"),
        (f"{CONFIG}.Strategy", "Halving", "enum value set"),
        (f"{CONFIG}.HyperParameterTuningJobObjective", REMOVED, "Objective"),
        (f"{CONFIG}.HyperParameterTuningJobObjective.MetricName", "loss", "A metric is required"),
        (f"{CONFIG}.HyperParameterTuningJobObjective.Type", "Max", "enum value set"),
        (f"{CONFIG}.ResourceLimits.MaxNumberOfTrainingJobs", REMOVED, "MaxNumberOfTrainingJobs"),
        (f"{CONFIG}.ResourceLimits.MaxParallelTrainingJobs", 4, "MaxParallelTrainingJobs"),
        (f"{CONFIG}.ResourceLimits.MaxRuntimeInSeconds", 119, "maxRuntimeInSeconds"),
        (f"{CONFIG}.ParameterRanges", {}, "At least one"),
        (f"{LR}.MinValue", 0.1, "string"),
        (f"{LR}.MinValue", "a", "no numbers"),
        (f"{LR}.MinValue", "0.1", "less than"),
        (f"{LR}.MinValue", "0", "greater than 0"),
        (f"{LR}.ScalingType", "Log", "enum value set"),
        (f"{CONFIG}.ParameterRanges.IntegerParameterRanges.0.MinValue", "1.5", "no integers"),
        (
            f"{CONFIG}.ParameterRanges.CategoricalParameterRanges.0.Values",
            [str(i) for i in range(31)],
            "values",
        ),
        (f"{CONFIG}.Strategy", "Grid", "categorical"),
    ],
)
def test_a_sweep_with_one_bad_field_is_refused(
    sagemaker: Any, request_: dict[str, Any], path: str, value: Any, words: str
) -> None:
    with refused("ValidationException", words):
        sagemaker.create_hyper_parameter_tuning_job(**with_field(request_, path, value))


def test_trials_take_no_arguments() -> None:
    from stage.aws.shapes import model

    shape: Any = model("sagemaker").shape_for("HyperParameterAlgorithmSpecification")
    assert not {"ContainerArguments", "ContainerEntrypoint"} & set(shape.members)


def test_a_sweep_needs_the_quota_of_all_that_run_at_a_time(
    world: aws.World, sagemaker: Any, request_: dict[str, Any]
) -> None:
    world.quotas.set("ml.m7i.4xlarge for training job usage", 1)
    request = with_field(request_, f"{TRIAL}.ResourceConfig.InstanceType", "ml.m7i.4xlarge")
    with refused("ResourceLimitExceeded", "request delta of 2"):
        sagemaker.create_hyper_parameter_tuning_job(**request)


def test_trials_follow_each_other_and_the_best_is_named(
    world: aws.World, sagemaker: Any, request_: dict[str, Any]
) -> None:
    sagemaker.create_hyper_parameter_tuning_job(**request_)
    with refused("ResourceInUse"):
        sagemaker.create_hyper_parameter_tuning_job(**request_)
    first, second = world.sagemaker.trials("demo-sweep")
    job = sagemaker.describe_training_job(TrainingJobName=first.name)
    assert job["TrainingJobName"].startswith("demo-sweep-")
    assert job["TuningJobArn"].endswith(":hyper-parameter-tuning-job/demo-sweep")
    given = job["HyperParameters"]
    assert given["_tuning_objective_metric"] == "val/accuracy"
    assert given["overrides"] == "[]"
    assert given["optimizer"] in ("adamw", "sgd")
    assert 1e-4 <= float(given["optimizer.lr"]) <= 1e-1
    assert {"Key": "project", "Value": "demo"} in sagemaker.list_tags(ResourceArn=first.arn)["Tags"]
    for trial, value in ((first, 0.5), (second, 0.75)):
        world.sagemaker.start(trial.name)
        world.sagemaker.say(trial.name, "objective=0.1", f"epoch 2: objective={value}")
        world.sagemaker.finish(trial.name, 0)
    third = world.sagemaker.trials("demo-sweep")[2]
    world.sagemaker.start(third.name)
    world.sagemaker.finish(third.name, 1)
    sweep = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="demo-sweep")
    assert sweep["HyperParameterTuningJobStatus"] == "Completed"
    best = sweep["BestTrainingJob"]
    assert best["TrainingJobName"] == second.name
    assert best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == 0.75
    assert sweep["TrainingJobStatusCounters"]["NonRetryableError"] == 1
    trials = sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="demo-sweep"
    )
    assert len(trials["TrainingJobSummaries"]) == 3
    listed = sagemaker.list_hyper_parameter_tuning_jobs(NameContains="sweep")[
        "HyperParameterTuningJobSummaries"
    ]
    assert [one["HyperParameterTuningJobName"] for one in listed] == ["demo-sweep"]


def test_stopping_a_sweep_stops_its_trials(
    world: aws.World, sagemaker: Any, request_: dict[str, Any]
) -> None:
    name = "demo-stopped"
    sagemaker.create_hyper_parameter_tuning_job(**request_ | {"HyperParameterTuningJobName": name})
    trial = world.sagemaker.trials(name)[0]
    world.sagemaker.start(trial.name)
    sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)

    def status() -> str:
        sweep = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        return sweep["HyperParameterTuningJobStatus"]

    assert (status(), trial.state) == ("Stopping", "Stopping")
    world.pass_time(120)
    assert (status(), trial.state) == ("Stopped", "Stopped")
    assert len(world.sagemaker.trials(name)) == 2
    with refused("ValidationException", "in status Stopped"):
        sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)


def test_five_failures_without_a_success_end_a_sweep(
    world: aws.World, sagemaker: Any, request_: dict[str, Any]
) -> None:
    request = with_field(request_, f"{CONFIG}.ResourceLimits.MaxNumberOfTrainingJobs", 9)
    request = with_field(request, f"{CONFIG}.ResourceLimits.MaxParallelTrainingJobs", 1)
    sagemaker.create_hyper_parameter_tuning_job(**request | {"HyperParameterTuningJobName": "demo-failing"})
    for number in range(5):
        trial = world.sagemaker.trials("demo-failing")[number]
        world.sagemaker.start(trial.name)
        world.sagemaker.finish(trial.name, 1)
    sweep = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="demo-failing")
    assert sweep["HyperParameterTuningJobStatus"] == "Failed"
    assert sweep["FailureReason"].startswith("No training job succeeded after 5 attempts.")


def test_the_whole_sweeps_time_is_limited(world: aws.World, sagemaker: Any, request_: dict[str, Any]) -> None:
    request = with_field(request_, f"{CONFIG}.ResourceLimits.MaxRuntimeInSeconds", 120)
    sagemaker.create_hyper_parameter_tuning_job(**request | {"HyperParameterTuningJobName": "demo-short"})
    world.pass_time(300)
    sweep = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="demo-short")
    assert sweep["HyperParameterTuningJobStatus"] == "Stopped"


def test_a_grid_has_each_combination_once(world: aws.World, sagemaker: Any, request_: dict[str, Any]) -> None:
    ranges = [{"Name": "a", "Values": ["1", "2"]}, {"Name": "b", "Values": ["x", "y"]}]
    request = with_field(request_, f"{CONFIG}.ParameterRanges", {"CategoricalParameterRanges": ranges})
    request = with_field(request, f"{CONFIG}.Strategy", "Grid")
    with refused("ValidationException", "must be 4"):
        sagemaker.create_hyper_parameter_tuning_job(**request)
    request = with_field(request, f"{CONFIG}.ResourceLimits", {"MaxParallelTrainingJobs": 4})
    sagemaker.create_hyper_parameter_tuning_job(**request | {"HyperParameterTuningJobName": "demo-grid"})
    tried = [
        world.sagemaker.tuning("demo-grid").tuned[trial.name] for trial in world.sagemaker.trials("demo-grid")
    ]
    assert sorted(one["a"] + one["b"] for one in tried) == ["1x", "1y", "2x", "2y"]


def test_what_is_not_there_is_not_found(sagemaker: Any) -> None:
    with refused("ResourceNotFound"):
        sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="nothing")
