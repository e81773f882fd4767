#!/bin/bash
# What a machine of cloud=gce does when it is taken away or deleted: it has 30 seconds, and the worker saves in them.
set -u
STATE=${STATE_DIRECTORY:-/var/lib/job}
mkdir -p "$STATE" && touch "$STATE/stopping" # so that no other attempt is started
name=$(curl --silent --fail --max-time 5 --header "Metadata-Flavor: Google" \
    "http://${GCE_METADATA_HOST:-metadata.google.internal}/computeMetadata/v1/instance/name")
[ -z "$name" ] || docker stop --time 25 "$name"
