#!/usr/bin/env python3
"""A stand-in for the AWS CLI, as much of it as the workflows use: `aws ecr get-login-password`.

https://docs.aws.amazon.com/cli/latest/reference/ecr/get-login-password.html
"""

import base64
import json
import os
import sys
import urllib.error
import urllib.request

USAGE = 252  # of the CLI for a command that it cannot parse


def main() -> None:
    words = sys.argv[1:]
    if words[:2] != ["ecr", "get-login-password"] or words[2:3] not in ([], ["--region"]) or len(words) == 3:
        print(f"The stand-in for the AWS CLI does not know: aws {' '.join(words)}", file=sys.stderr)
        sys.exit(USAGE)
    region = words[3] if len(words) > 3 else os.environ.get("AWS_REGION") or os.environ["AWS_DEFAULT_REGION"]
    if "AWS_ACCESS_KEY_ID" not in os.environ:
        sys.exit('Unable to locate credentials. You can configure credentials by running "aws login".')
    scope = f"{os.environ['AWS_ACCESS_KEY_ID']}/20260101/{region}/ecr/aws4_request"
    headers = {
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Security-Token": os.environ.get("AWS_SESSION_TOKEN", ""),
        "X-Amz-Target": "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
    }
    request = urllib.request.Request(os.environ["AWS_ENDPOINT_URL"], b"{}", headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)["authorizationData"][0]["authorizationToken"]
    except urllib.error.HTTPError as error:
        said = json.loads(error.read())
        kind, words = said.get("__type", "?"), said.get("message") or said.get("Message")
        print(
            f"\nAn error occurred ({kind}) when calling the GetAuthorizationToken operation: {words}",
            file=sys.stderr,
        )
        sys.exit(254)
    print(base64.b64decode(found).decode().partition(":")[2])


main()
