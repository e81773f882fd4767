"""Prepares a subscription of Azure and the GitHub repository for training in the cloud, and takes it back.

`cloud setup` can be run again at any time: what is there already stays as it is. Most of it is one deployment of a
resource group (template.json, roles.json), which is sent again where it or what it made has changed; DRY_RUN=1 prints
its template and what would be called, and talks to nobody. Settings are environment variables:

    AZURE_SUBSCRIPTION_ID   the subscription; default: the one that `az account set` has chosen
    GITHUB_REPO=o/name      the repository; default: the one that `origin` names
    BUDGET=50               a month, in the subscription's currency; mails are sent to MAIL at 50, 90 and 100 % of it
    MAIL=you@example.org
    WANDB_API_KEY           from the environment: kept as a secret that only the job can read
    REVIEWER=login          has to agree before each training from GitHub; private repositories need a paid plan for it

Azure has no right by which a job of more than so many hours, or on another machine, would be refused: what a launch may
cost is bounded by the launcher's own caps and by the subscription's quota of cores.

`cloud destroy` removes it, and ends all that still runs: endpoints, jobs, sweeps, notebooks, clusters. It asks first. What is gone
already is no trouble.

    DATA=delete   the data's storage account too, with all results; without it that one stays in its resource group
    YES=1         asks nothing
    DRY_RUN, AZURE_SUBSCRIPTION_ID, GITHUB_REPO as for setup

What else is in the resource group is neither changed nor removed, and keeps the group.
"""

from __future__ import annotations


def setup() -> None:
    """Prepare subscription and repository.

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
