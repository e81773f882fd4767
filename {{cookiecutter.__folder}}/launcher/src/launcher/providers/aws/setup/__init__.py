"""Prepares an AWS account and the GitHub repository for training in the cloud, and takes it back.

`cloud setup` can be run again at any time: what is there already stays as it is. Most of it is one stack of
CloudFormation (stack.yaml), which is updated; DRY_RUN=1 prints its template and what would be called, and talks to
nobody. Settings are environment variables:

    AWS_PROFILE         the login to use, where you have several: `aws configure` or `aws sso login` makes them
    GITHUB_REPO=o/name  the repository; default: the one that `origin` names
    MACHINES="cpu t4"   which rows of the price table GitHub may start, and which Batch gets two queues each for;
                        default: all that are in the region. An account has 50 queues in a region
    MAX_HOURS=24        the longest training that GitHub may start on SageMaker, by the rights of its role
    BUDGET=50           a month, in USD; mails are sent to MAIL at 50, 90 and 100 % of it
    MAIL=you@example.org
    WANDB_API_KEY       from the environment: kept as a secret that only the job can read
    REVIEWER=login      has to agree before each training from GitHub; private repositories need a paid plan for it

MACHINES and MAX_HOURS hold until they are given again.

`cloud destroy` removes it, and ends all that still runs: jobs, sweeps, notebooks. It asks first. What is gone already is
no trouble.

    DATA=delete   the bucket too, with all data and results; without it the bucket stays
    YES=1         asks nothing
    DRY_RUN, AWS_PROFILE, GITHUB_REPO as for setup

What was there before the first setup (a bucket, the identity provider for GitHub, log groups, a secret) is used, and
neither changed nor removed. The services' own roles of an account stay: they cost nothing, and others may use them.
"""

from __future__ import annotations


def setup() -> None:
    """Prepare account and repository.

    Raises:
        UserError: it cannot be done, in one sentence; what was done before stays, and the next run goes on.
    """
    from .make import make

    make()


def destroy() -> None:
    """Remove what `setup` has made.

    Raises:
        UserError: something cannot be removed, in one sentence.
    """
    from .remove import remove

    remove()
