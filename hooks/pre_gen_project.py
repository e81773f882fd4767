"""Refuses answers that cannot become a project, in one sentence that says what to type instead.

Cookiecutter runs this before it writes a file, and removes the folder when it fails. The answers come as one
JSON text: `tojson` escapes the single quote and everything beyond ASCII, so no answer can end the literal.
"""

import difflib
import json
import keyword
import re
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

ANSWERS = json.loads(r"""{{ cookiecutter | tojson }}""")

QUESTIONS = ("project_name", "project_slug", "package_name", "description", "author_name", "region", "bucket")
# Free text: what it is called in a sentence, and its longest.
TEXTS = {
    "project_name": ("project name", 80),
    "description": ("description", 300),
    "author_name": ("author", 120),
}
# Direct dependencies, what they bring along, and this project's own folders: a package of one of these names
# would be imported in its place, and a project of such a name would depend on itself.
TAKEN = """
    adlfs aiohttp alembic anyio attr attrs azure azure_identity azure_storage_blob boto3 botocore certifi
    click cryptography cycler dill docker dvc dvc_azure dvc_data dvc_gs dvc_objects dvc_render dvc_s3
    dvc_studio_client dvc_task filelock flufl fsspec functorch gcsfs git gitdb gitpython google h11
    hatchling hydra hydra_core hydra_optuna_sweeper hydra_plugins idna ipykernel ipython isodate jinja2
    joblib jupyter jupyterlab jwt kiwisolver launcher lightning_utilities markdown matplotlib ml_dtypes
    mpl_toolkits mpmath msal nbclient nbformat networkx numpy nvidia omegaconf onnx onnx_ir onnxruntime
    onnxscript optuna packaging pandas pathspec pil pillow pip platformdirs pluggy pre_commit
    pre_commit_hooks prometheus_client protobuf psutil py pydantic pygments pylab pyparsing pyright pytest
    pyyaml requests rich ruff s3fs safetensors scikit_learn scipy scmrepo sentry_sdk setuptools shtab six
    sklearn sqlalchemy starlette sympy tabulate threadpoolctl torch torchgen torchmetrics tornado tqdm
    traitlets triton typer typing_extensions urllib3 uv uvicorn virtualenv wandb xdist xxhash yaml
    configs data infra models notebooks runs src test tests
"""
BUCKETS = {
    "gcp": (
        r"(?!goog)(?!.*(google|g00gle))[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]",
        "3 to 63 lower-case letters, digits and dashes, a letter or digit at both ends, and no 'google'",
    ),
    "aws": (
        r"(?!xn--|sthree-|amzn-s3-demo-)[a-z0-9][a-z0-9-]{1,61}[a-z0-9](?<!-s3alias)(?<!--ol-s3)(?<!--x-s3)(?<!--table-s3)",
        "3 to 63 lower-case letters, digits and dashes, a letter or digit at both ends, none of S3's own affixes",
    ),
    # The names of the registry, the vault and the workspace's own storage account (ml...) are made of it, and all are hosts:
    # https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/error-reserved-resource-name
    "azure": (
        r"(?!login)(?!.*(microsoft|windows))(?!(ml){12})[a-z0-9]{3,24}",
        "the storage account's name: 3 to 24 lower-case letters and digits, no 'login' at its start, no 'microsoft' or 'windows', not 'ml' 12 times",
    ),
}
# What AWS keeps apart, with accounts and services of its own.
PARTITIONS = ("cn-", "us-gov-", "us-iso", "eu-isoe-", "eusc-")
REGIONS = {
    "gcp": """
    africa-south1 asia-east1 asia-east2 asia-northeast1 asia-northeast2 asia-northeast3 asia-south1 asia-south2
    asia-southeast1 asia-southeast2 asia-southeast3 australia-southeast1 australia-southeast2 europe-central2
    europe-north1 europe-north2 europe-southwest1 europe-west1 europe-west2 europe-west3 europe-west4
    europe-west6 europe-west8 europe-west9 europe-west10 europe-west12 me-central1 me-central2 me-west1
    northamerica-northeast1 northamerica-northeast2 northamerica-south1 southamerica-east1 southamerica-west1
    us-central1 us-east1 us-east4 us-east5 us-south1 us-west1 us-west2 us-west3 us-west4
    """,
    "aws": """
    af-south-1 ap-east-1 ap-east-2 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 ap-south-2
    ap-southeast-1 ap-southeast-2 ap-southeast-3 ap-southeast-4 ap-southeast-5 ap-southeast-6 ap-southeast-7
    ca-central-1 ca-west-1 eu-central-1 eu-central-2 eu-north-1 eu-south-1 eu-south-2 eu-west-1 eu-west-2
    eu-west-3 il-central-1 me-central-1 me-south-1 mx-central-1 sa-east-1 us-east-1 us-east-2 us-west-1
    us-west-2
    """,
    "azure": """
    australiacentral australiacentral2 australiaeast australiasoutheast austriaeast belgiumcentral brazilsouth
    brazilsoutheast canadacentral canadaeast centralindia centralus chilecentral denmarkeast eastasia eastus
    eastus2 francecentral francesouth germanynorth germanywestcentral indonesiacentral israelcentral italynorth
    japaneast japanwest jioindiacentral jioindiawest koreacentral koreasouth malaysiawest mexicocentral
    newzealandnorth northcentralus northeurope norwayeast norwaywest polandcentral qatarcentral
    southafricanorth southafricawest southcentralus southeastasia southindia spaincentral swedencentral
    switzerlandnorth switzerlandwest uaecentral uaenorth uksouth ukwest westcentralus westeurope westindia
    westus westus2 westus3
    """,
}


def problems(answers: dict[str, Any]) -> Iterator[str]:
    """Yields one sentence for each answer that cannot be used, in the order of the questions."""
    for key in QUESTIONS:
        if not isinstance(answers[key], str):  # YAML's yes, no, null and 2024, in a file of defaults
            yield (
                f"The answer {key} is {json.dumps(answers[key])}, which is no text: put it in quotes in your file of"
                f' answers, as in {key}: "...".'
            )
            return
    for key, (what, longest) in TEXTS.items():
        yield from text_problems(what, answers[key], longest)
    slug, package, cloud = answers["project_slug"], answers["package_name"], answers["cloud"]
    if not re.fullmatch(r"(?=.{1,63}\Z)[a-z][a-z0-9]*(-[a-z0-9]+)*", slug):
        yield (
            f"The project slug {slug[:80]!r} cannot name a folder, a repository and an image: type at most 63"
            f" lower-case letters and digits that start with a letter, joined by single dashes, such as 'my-project'."
        )
    elif slug.replace("-", "_") in TAKEN.split():
        yield f"The project slug {slug!r} is the name of a dependency or folder: type another, such as '{slug}-training'."
    elif answers["__folder"] != slug:  # cookiecutter does not derive it where a replay file lacks it
        yield (
            "The answers come from a replay file without this template's own variables: give them as `default_context:`"
            " of a file for --config-file, with --no-input."
        )
    # A longer name would push the import lines of the project's tests over its own linter's line length.
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", package):
        yield (
            f"The package name {package[:80]!r} cannot be imported: type a lower-case letter and then at most 31"
            f" letters, digits and underscores, such as 'my_project'."
        )
    elif keyword.iskeyword(package) or package in sys.stdlib_module_names or package in TAKEN.split():
        yield (
            f"The package name {package!r} belongs to Python, to a dependency or to a folder of the project:"
            f" type another, such as '{package}_training'."
        )
    regions = REGIONS[cloud].split()
    if cloud == "aws" and answers["region"].startswith(PARTITIONS):
        yield (
            f"The region {answers['region'][:80]!r} is in a part of AWS with accounts of its own (China, GovCloud and the"
            " like), which this template does not know: type another one, such as 'us-east-1'."
        )
    elif answers["region"] not in regions:
        nearest = difflib.get_close_matches(answers["region"].lower(), regions, n=1, cutoff=0)[0]
        yield f"The region {answers['region'][:80]!r} is not one of {cloud}: type one that is, such as '{nearest}'."
    pattern, rule = BUCKETS[cloud]
    if not re.fullmatch(pattern, answers["bucket"]):
        yield f"The bucket name {answers['bucket'][:80]!r} would be refused by {cloud}: type {rule}."


def text_problems(what: str, text: str, longest: int) -> Iterator[str]:
    """Yields a sentence if free text is empty, too long or holds what no line of text should."""
    # Control characters, halves of characters and line breaks would end a line of TOML or Markdown;
    # overrides of the writing direction make text look like what it is not. Right-to-left letters need none.
    bad = next((c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), None)
    bad = bad or next(
        (c for c in text if c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"), None
    )
    if all(unicodedata.category(c)[0] in "ZC" for c in text):
        yield f"The {what} is empty: type at least one visible character."
    elif bad:
        yield f"The {what} holds U+{ord(bad):04X}, which is no printable character: type it as one plain line."
    elif len(text) > longest:
        yield f"The {what} is {len(text)} characters long: type at most {longest}."


if __name__ == "__main__":
    sys.exit(next(problems(ANSWERS), None))
