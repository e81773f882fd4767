"""What SageMaker refuses of a tuning job, beyond its model.

https://docs.aws.amazon.com/sagemaker/latest/dg/automatic-model-tuning-define-ranges.html and -how-it-works.html,
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_HyperParameterTuningJobConfig.html.
"""

import math
from typing import Any

from stage.aws.errors import AwsError
from stage.aws.training_rules import invalid

SCALES = ("Auto", "Linear", "Logarithmic", "ReverseLogarithmic")
VALUES = 30  # of a categorical parameter: automatic-model-tuning-limits.md


def definition_of(given: dict[str, Any]) -> dict[str, Any]:
    """What the trials are: one definition, where the service would take several too."""
    if ("TrainingJobDefinition" in given) == ("TrainingJobDefinitions" in given):
        raise invalid("Either TrainingJobDefinition or TrainingJobDefinitions has to be specified, not both.")
    if "TrainingJobDefinitions" in given or "WarmStartConfig" in given or "Autotune" in given:
        raise AwsError(
            "NotImplemented", "Several definitions, warm starts, Autotune: not part of the stand-in.", 501
        )
    return given["TrainingJobDefinition"]


def check_tuning(given: dict[str, Any]) -> None:
    """Refuses a search that cannot be made."""
    config, definition = given["HyperParameterTuningJobConfig"], definition_of(given)
    objective = config.get("HyperParameterTuningJobObjective")
    if not objective:
        raise invalid("HyperParameterTuningJobObjective is required for the tuning job.")
    metrics = definition["AlgorithmSpecification"].get("MetricDefinitions", [])
    if objective["MetricName"] not in [metric["Name"] for metric in metrics]:
        # As seen: https://github.com/aws/amazon-sagemaker-examples/issues/1207.
        raise invalid(
            "A metric is required for this hyperparameter tuning job objective. Provide a metric in the metric definitions."
        )
    ranges = config.get("ParameterRanges", {})
    if "AutoParameters" in ranges or "StrategyConfig" in config:
        raise AwsError(
            "NotImplemented", "AutoParameters and StrategyConfig are not part of the stand-in.", 501
        )
    names = [one["Name"] for kind in ranges.values() for one in kind]
    if not names:
        raise invalid("At least one hyperparameter range is required.")
    static = definition.get("StaticHyperParameters", {})
    if len(set(names)) < len(names) or set(names) & set(static):
        raise invalid("The names of static and tuned hyperparameters must be different from each other.")
    if len(names) > 30 or len(names) + len(static) > 100:
        raise invalid("A tuning job takes at most 30 ranges, and 100 hyperparameters in all.")
    for kind, whole in (("IntegerParameterRanges", True), ("ContinuousParameterRanges", False)):
        for one in ranges.get(kind, []):
            _check_range(one, whole)
    for one in ranges.get("CategoricalParameterRanges", []):
        if not 1 <= len(one["Values"]) <= VALUES or len(set(one["Values"])) < len(one["Values"]):
            raise invalid(f"{one['Name']} needs 1 to {VALUES} different values.")
    _check_limits(config, ranges)


def _check_range(one: dict[str, Any], whole: bool) -> None:
    try:
        least, most = (int(one[key]) if whole else float(one[key]) for key in ("MinValue", "MaxValue"))
    except ValueError as error:
        raise invalid(f"The bounds of {one['Name']} are no {'integers' if whole else 'numbers'}.") from error
    if not least < most or not math.isfinite(least) or not math.isfinite(most):
        raise invalid(f"MinValue of {one['Name']} must be less than its MaxValue.")
    scale = one.get("ScalingType", "Auto")
    if scale == "Logarithmic" and least <= 0:
        raise invalid(f"Logarithmic scaling of {one['Name']} works only for values greater than 0.")
    if scale == "ReverseLogarithmic" and (whole or least < 0 or most >= 1):
        raise invalid(
            f"ReverseLogarithmic scaling of {one['Name']} works only for ranges within 0 <= x < 1.0."
        )


def _check_limits(config: dict[str, Any], ranges: dict[str, Any]) -> None:
    limits, strategy = config["ResourceLimits"], config["Strategy"]
    most = limits.get("MaxNumberOfTrainingJobs")
    if strategy == "Grid":
        if ranges.get("IntegerParameterRanges") or ranges.get("ContinuousParameterRanges"):
            raise invalid("Grid search takes categorical parameters only.")
        total = math.prod(len(one["Values"]) for one in ranges["CategoricalParameterRanges"])
        if most is not None and most != total:
            raise invalid(f"MaxNumberOfTrainingJobs of a grid search must be {total} or not given.")
    elif most is None:
        raise invalid("MaxNumberOfTrainingJobs is required.")
    elif limits["MaxParallelTrainingJobs"] > most:
        raise invalid("MaxParallelTrainingJobs cannot be greater than MaxNumberOfTrainingJobs.")
    # Quotas of the service: 10 parallel and 750 in all (automatic-model-tuning-limits.md).
    if limits["MaxParallelTrainingJobs"] > 10 or (most or 0) > 750:
        raise AwsError("ResourceLimitExceeded", "A tuning job runs at most 10 jobs at a time and 750 in all.")
    if config.get("TrainingJobEarlyStoppingType") == "Auto" and strategy == "Hyperband":
        raise invalid("TrainingJobEarlyStoppingType must be OFF with Hyperband.")
