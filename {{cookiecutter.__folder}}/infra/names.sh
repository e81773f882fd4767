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
# Roles of this project's own: letters, digits and underscores, as Google wants them.
LAUNCHER_ROLE={{ cookiecutter.__account | replace('-', '_') }}_launch
TRAINER_ROLE={{ cookiecutter.__account | replace('-', '_') }}_trainer
FIREWALL={{ cookiecutter.__account }}           # its rules hold for machines with the tag $SLUG
SECRET={{ cookiecutter.project_slug }}-wandb
ENVIRONMENT=cloud                               # of GitHub, in .github/workflows/train.yml
