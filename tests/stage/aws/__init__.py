"""AWS on this machine: strict stand-ins for what trains and pays, and moto for the rest.

    with aws.serve(folder) as world:
        client = boto3.client("sagemaker", endpoint_url=world.url, ...)   # or programs with world.environment
        world.sagemaker.start("demo-1")

Containers: `stage.aws.runner.running` runs what is submitted, from a registry on this machine. What moto's CloudFormation
lacks beside AWS Batch: `stage.aws.cloudformation.as_documented`. moto's own clock stays this machine's (LastModified).

Not modelled: signatures of requests (whose keys they are, and the session token, is looked at), permissions boundaries,
bucket policies, several nodes and Fargate on Batch, array jobs and dependencies, serverless training, warm pools, debugger,
several definitions of one tuning job, warm starts, and how Bayesian search chooses.

Sources: the services' models as botocore ships them, pages of docs.aws.amazon.com, the developer guides that AWS has had
on GitHub (awsdocs/amazon-sagemaker-developer-guide, awsdocs/aws-batch-user-guide), and reports of users. Each rule names
its own. Where nothing is known the stand-ins do what is worse for a client, and say so.
"""

from stage.aws.world import World, serve

__all__ = ["World", "serve"]
