"""What a person reads of AWS's answers: what was refused and what to do, and nothing of what its client says to itself."""

import logging

import pytest
from launcher import storage
from launcher.providers.aws.errors import explain

pytestmark = pytest.mark.cloud("aws")
REFUSED = "User: a is not authorized to perform: {} on resource: b because no identity-based policy allows it"


@pytest.mark.parametrize("action", ["sagemaker:CreateTrainingJob", "sagemaker:CreateHyperParameterTuningJob"])
def test_a_job_beyond_the_bounds_of_the_setup_is_told_which_they_are(action: str) -> None:
    said = str(explain("AccessDeniedException", REFUSED.format(action), 400, "sagemaker"))
    assert action in said
    assert "MAX_HOURS=24, MACHINES=all" in said


def test_what_has_no_bounds_is_somebodys_to_allow() -> None:
    said = str(explain("AccessDeniedException", REFUSED.format("batch:SubmitJob"), 403, "batch"))
    assert "must allow this login batch:SubmitJob" in said
    assert "MAX_HOURS" not in said


def test_where_a_login_was_found_is_no_news() -> None:
    assert storage.log.name
    for name in ("botocore.credentials", "botocore.regions", "aiobotocore.credentials"):
        assert not logging.getLogger(name).isEnabledFor(logging.INFO)
        assert logging.getLogger(name).isEnabledFor(logging.WARNING)
