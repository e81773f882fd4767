# shellcheck shell=bash disable=SC2034
# What everything of this project in Google Cloud is called: the only names that setup and destroy know.
SLUG={{ cookiecutter.project_slug }}
REGION={{ cookiecutter.region }}
BUCKET={{ cookiecutter.bucket }}
LAUNCHER={{ cookiecutter.__account }}-launch    # what GitHub Actions acts as: builds, submits jobs
TRAINER={{ cookiecutter.__account }}-trainer    # what the job acts as: reads data, writes results
POOL={{ cookiecutter.__account }}-github
POOL=${POOL#gcp-}                               # Google keeps that prefix for itself
PROVIDER=github
SECRET={{ cookiecutter.project_slug }}-wandb
ENVIRONMENT=cloud                               # of GitHub, in .github/workflows/train.yml
