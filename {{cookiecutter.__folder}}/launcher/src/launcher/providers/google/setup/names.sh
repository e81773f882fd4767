# shellcheck shell=bash disable=SC2034
# What everything of this project in Google Cloud is called: the only names that setup and destroy know.
# SLUG, REGION and BUCKET come from [tool.launcher] in pyproject.toml, by `cloud setup`.
: "${SLUG:?is not set: start this by 'uv run cloud setup'}" "${REGION:?}" "${BUCKET:?}" "${ACCOUNT:?}" "${REGIONS:=$REGION}"
LAUNCHER=$ACCOUNT-launch    # what GitHub Actions acts as: builds, submits jobs
TRAINER=$ACCOUNT-trainer    # what the job acts as: reads data, writes results
SERVER=$ACCOUNT-server      # what models act as that answer in the cloud: has no role
POOL=$ACCOUNT-github
POOL=${POOL#gcp-}                               # Google keeps that prefix for itself
PROVIDER=github
# A role of this project's own: letters, digits and underscores, as Google wants them.
LAUNCHER_ROLE=${ACCOUNT//-/_}_launch
PREDICT_ROLE=${ACCOUNT//-/_}_predict            # for asking one endpoint of Vertex AI, and nothing else
OLD_ROLE=${ACCOUNT//-/_}_trainer                # of earlier setups: a job could end its own machine
FIREWALL=$ACCOUNT           # its rules hold for machines with the tag $SLUG, which every job gives to its own
SECRET=$SLUG-wandb
ENVIRONMENT=cloud                               # of GitHub, in .github/workflows/train.yml
UNATTENDED=unattended                           # of the other jobs that log in; GitHub makes it when a workflow names it
LABEL=train                                     # of pull requests, there too
