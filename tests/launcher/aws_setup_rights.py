"""Which tokens of GitHub get in, and what each role may do and what not, once `cloud setup` has prepared an AWS project."""

ARN = "arn:aws:{}:us-east-1:123456789012:{}"
TOKENS = {
    "new subject": ({}, True),
    "old subject": ({"sub": "repo:octo-org/leaves:ref:refs/heads/main"}, True),
    "a repository of the same name": (
        {"sub": "repo:octo-org/leaves:ref:refs/heads/main", "repository_id": "9"},
        False,
    ),
    "another name": ({"repository": "octo-org/roots"}, False),
    "another audience": ({"aud": "https://github.com/octo-org"}, False),
}
OURS, CAP = {"aws:RequestTag/project": "demo"}, "sagemaker:MaxRuntimeInSeconds"
HERE = {"aws:RequestedRegion": "us-east-1"}
JOB = {**OURS, CAP: "3600", "sagemaker:InstanceTypes": ["ml.g6.xlarge"]}
TRAINING, QUEUE = ARN.format("sagemaker", "training-job/x-1"), ARN.format("batch", "job-queue/demo-t4-spot")
IMAGES, TRAINER = ARN.format("ecr", "repository/demo/train"), "arn:aws:iam::123456789012:role/demo-trainer"
SERVING, SERVER = ARN.format("ecr", "repository/demo/serve"), TRAINER.replace("trainer", "server")
ENDPOINT = ARN.format("sagemaker", "endpoint/demo-digits")
LOG = ARN.format("logs", "log-group:/aws/sagemaker/Endpoints")
CREATE = "sagemaker:CreateTrainingJob"
RIGHTS = [
    # role, action, resource, context, allowed
    ("launcher", CREATE, TRAINING, JOB, True),
    ("launcher", CREATE, TRAINING, {**JOB, CAP: "86400"}, True),
    ("launcher", CREATE, TRAINING, {**JOB, CAP: "86401"}, False),
    ("launcher", CREATE, TRAINING, {**JOB, "sagemaker:InstanceTypes": ["ml.p5en.48xlarge"]}, False),
    (
        "launcher",
        CREATE,
        TRAINING,
        {key: value for key, value in JOB.items() if "Types" not in key},
        False,
    ),
    ("launcher", CREATE, TRAINING, {**JOB, "aws:RequestTag/project": "other"}, False),
    ("launcher", CREATE, TRAINING.replace("us-east-1", "eu-west-1"), JOB, False),
    ("launcher", "sagemaker:StopTrainingJob", TRAINING, {"aws:ResourceTag/project": "demo"}, True),
    ("launcher", "sagemaker:StopTrainingJob", TRAINING, {"aws:ResourceTag/project": "other"}, False),
    ("launcher", "sagemaker:StopTrainingJob", TRAINING, {}, False),
    ("launcher", "sagemaker:AddTags", TRAINING, OURS, True),
    ("launcher", "sagemaker:AddTags", TRAINING, {**OURS, "aws:ResourceTag/project": "other"}, False),
    ("launcher", "sagemaker:ListTrainingJobs", "*", HERE, True),
    ("launcher", "sagemaker:CreateNotebookInstance", "*", {**OURS, **HERE}, False),
    ("launcher", "iam:PassRole", TRAINER, {"iam:PassedToService": "sagemaker.amazonaws.com"}, True),
    ("launcher", "iam:PassRole", TRAINER, {"iam:PassedToService": "ecs-tasks.amazonaws.com"}, True),
    ("launcher", "iam:PassRole", TRAINER, {"iam:PassedToService": "batch.amazonaws.com"}, True),
    ("launcher", "iam:PassRole", TRAINER, {"iam:PassedToService": "ec2.amazonaws.com"}, False),
    (
        "launcher",
        "iam:PassRole",
        TRAINER.replace("trainer", "launcher"),
        {"iam:PassedToService": "sagemaker.amazonaws.com"},
        False,
    ),
    ("launcher", "batch:SubmitJob", QUEUE, {**OURS, "aws:ResourceTag/project": "demo"}, True),
    ("launcher", "batch:SubmitJob", QUEUE, {**OURS, "aws:ResourceTag/project": "demo-two"}, False),
    ("launcher", "batch:SubmitJob", ARN.format("batch", "job-definition/demo-train:7"), OURS, True),
    ("launcher", "batch:SubmitJob", ARN.format("batch", "job-definition/demo-two-train:7"), OURS, False),
    ("launcher", "batch:RegisterJobDefinition", ARN.format("batch", "job-definition/demo-train"), {}, True),
    (
        "launcher",
        "batch:RegisterJobDefinition",
        ARN.format("batch", "job-definition/demo-train"),
        {"batch:Privileged": "true"},
        False,
    ),
    ("launcher", "batch:CreateComputeEnvironment", "*", HERE, False),
    ("launcher", "ecr:PutImage", IMAGES, {}, True),
    ("launcher", "ecr:BatchDeleteImage", IMAGES, {}, False),
    ("launcher", "s3:PutObject", "arn:aws:s3:::demo-bucket/runs/x", {}, True),
    ("launcher", "s3:PutObject", "arn:aws:s3:::other-bucket/runs/x", {}, False),
    ("launcher", "s3:DeleteBucket", "arn:aws:s3:::demo-bucket", {}, False),
    (
        "launcher",
        "secretsmanager:GetSecretValue",
        ARN.format("secretsmanager", "secret:demo-wandb-a1b2c3"),
        {},
        False,
    ),
    (
        "trainer",
        "secretsmanager:GetSecretValue",
        ARN.format("secretsmanager", "secret:demo-wandb-a1b2c3"),
        {},
        True,
    ),
    (
        "trainer",
        "secretsmanager:GetSecretValue",
        ARN.format("secretsmanager", "secret:demo-wandb-2-a1b2c3"),
        {},
        False,
    ),
    ("trainer", "s3:DeleteObject", "arn:aws:s3:::demo-bucket/runs/x/last.pt", {}, True),
    ("trainer", CREATE, TRAINING, JOB, False),
    ("trainer", "ecr:PutImage", IMAGES, {}, False),
    ("trainer", "ecr:BatchGetImage", SERVING, {}, False),
    ("launcher", "sagemaker:ListEndpoints", "*", HERE, True),
    ("launcher", "sagemaker:DescribeEndpoint", ENDPOINT, {}, True),
    ("launcher", "sagemaker:DescribeEndpoint", ENDPOINT.replace("demo-", "other-"), {}, False),
    ("launcher", "sagemaker:DeleteEndpoint", ENDPOINT, {"aws:ResourceTag/project": "demo"}, True),
    ("launcher", "sagemaker:DeleteEndpoint", ENDPOINT, {"aws:ResourceTag/project": "demo-two"}, False),
    ("launcher", "sagemaker:CreateEndpoint", ENDPOINT, OURS, False),
    ("launcher", "sagemaker:InvokeEndpoint", ENDPOINT, {}, False),
    ("launcher", "iam:PassRole", SERVER, {"iam:PassedToService": "sagemaker.amazonaws.com"}, False),
    ("server", "ecr:BatchGetImage", SERVING, {}, True),
    ("server", "ecr:BatchGetImage", IMAGES, {}, False),
    ("server", "s3:GetObject", "arn:aws:s3:::demo-bucket/runs/x", {}, False),
    ("server", "logs:PutLogEvents", f"{LOG}/demo-digits:log-stream:x", {}, True),
    ("server", "logs:PutLogEvents", f"{LOG}/other-digits:log-stream:x", {}, False),
    ("machine", "ecr:BatchGetImage", IMAGES, {}, True),
    ("machine", "s3:GetObject", "arn:aws:s3:::demo-bucket/runs/x", {}, False),
    ("machine", "ssmmessages:OpenDataChannel", "*", {}, True),
]
