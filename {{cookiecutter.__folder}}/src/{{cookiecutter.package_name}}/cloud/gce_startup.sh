#!/bin/bash
# What a machine of cloud=gce does from its start, as root: it runs one job in a container, and deletes itself.
# It installs nothing: Docker and NVIDIA's driver are in Google's deep-learning image. All it is told is in its metadata.
set -uo pipefail # not -e: whatever fails, the end must come

STATE=${STATE_DIRECTORY:-/var/lib/job} # on the disk: a machine that starts anew knows what it has done
PATIENCE=${PATIENCE:-300}              # seconds for which trouble that may pass is waited out
PAUSE=${PAUSE:-10}                     # seconds between two tries
METADATA=http://${GCE_METADATA_HOST:-metadata.google.internal}/computeMetadata/v1
COMPUTE=${CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE:-https://compute.googleapis.com/compute/v1/}
STORAGE=${STORAGE_EMULATOR_HOST:-https://storage.googleapis.com}

say() { printf 'machine: %s\n' "$*"; }

ask() { curl --silent --show-error --fail --max-time 30 --retry 5 --header "Metadata-Flavor: Google" "$METADATA/$1"; }

attribute() { ask "instance/attributes/$1"; }

token() { ask instance/service-accounts/default/token | sed -n 's/.*"access_token" *: *"\([^"]*\)".*/\1/p'; }

# The header is read from standard input: what is in a command line can be seen by every process.
call() {
    printf 'Authorization: Bearer %s\n' "$(token)" |
        curl --silent --max-time 60 --output "$STATE/answer" --write-out '%{http_code}' --header @- "$@"
}

# variable NAME: its value in the job's environment.
variable() { sed -n "s/^$1=//p" "$STATE/env"; }

# again COMMAND...: until it works, or patience ends.
again() {
    local until=$((SECONDS + PATIENCE))
    until "$@"; do
        [ "$SECONDS" -lt "$until" ] || return 1
        sleep "$PAUSE"
    done
}

ending() { [ -e "$STATE/stopping" ] || [ -e "$STATE/expired" ]; }

# close STATE REASON: says how the run ended, unless its worker has. Without that it would be started on other machines.
close() {
    local output bucket
    say "$1: $2"
    output=$(variable RUN_OUTPUT)
    case $output in gs://*) ;; *) return 0 ;; esac
    bucket=${output#gs://}
    python3 -c '
import datetime, json, sys
time = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
print(json.dumps({"state": sys.argv[1], "exit_code": 1, "reason": sys.argv[2], "time": time}))' "$1" "$2" > "$STATE/outcome"
    again put_outcome "${bucket%%/*}" "${bucket#*/}/outcome.json"
}

put_outcome() {
    local status name=${2//\//%2F}
    status=$(call --request POST --header "Content-Type: application/json" --data-binary "@$STATE/outcome" \
        "$STORAGE/upload/storage/v1/b/$1/o?uploadType=media&name=$name&ifGenerationMatch=0")
    [ "$status" = 200 ] || [ "$status" = 412 ] # 412: there is one
}

read_metadata() {
    NAME=$(ask instance/name) && ZONE=$(ask instance/zone) && PROJECT=$(ask project/project-id) &&
        RUN=$(attribute run-id) && IMAGE=$(attribute run-image) && GPUS=$(attribute run-gpus) &&
        LIMIT=$(attribute run-seconds) && attribute run-env > "$STATE/env" && attribute run-args > "$STATE/args"
}

read_args() {
    local arg
    ARGS=()
    while IFS= read -r -d '' arg; do ARGS+=("$arg"); done < <(
        python3 -c 'import json, sys; sys.stdout.write("".join(arg + "\0" for arg in json.load(sys.stdin)))' < "$STATE/args"
    )
}

# The driver may still be on its way at the first start. A GPU that does not work costs as much as one that does.
has_driver() { [ "$GPUS" = 0 ] || nvidia-smi > "$STATE/driver" 2>&1; }

# In a folder of its own, which the job does not see.
log_in() {
    local host=${IMAGE%%/*}
    case $host in
        *.pkg.dev) token | docker login --username oauth2accesstoken --password-stdin "https://$host" > /dev/null ;;
    esac
}

pull() { log_in && docker pull --quiet "$IMAGE" 2> "$STATE/pull"; }

run() {
    local gpus=()
    [ "$GPUS" = 0 ] || gpus=(--gpus all)
    docker rm --force "$NAME" > /dev/null 2>&1 # of a start before this one
    docker run --rm --name "$NAME" --network host --stop-timeout 25 --label "run=$RUN" "$@" \
        --env-file "$STATE/env" ${gpus[@]+"${gpus[@]}"} "$IMAGE" ${ARGS[@]+"${ARGS[@]}"}
}

# Runs the container, and again where that may help; the worker counts attempts over all machines.
work() {
    local status attempt=0 most
    most=$(variable RUN_MAX_ATTEMPTS)
    while ! ending; do
        attempt=$((attempt + 1))
        run --log-driver gcplogs --log-opt labels=run
        status=$?
        if [ "$status" = 125 ] && ! ending; then
            say "Docker cannot start it so; once more without Cloud Logging"
            run
            status=$?
        fi
        say "the container ended with status $status"
        ending && return
        case $status in
            0 | 143) return ;; # done, or taken away
            1) close failed "the worker ended with status 1"; return ;; # it has mostly said so itself, and better
            125 | 126 | 127) close failed "the container cannot be started (status $status)"; return ;;
        esac
        if [ "$attempt" -ge "${most:-1}" ]; then
            close failed "the container was started $attempt times on $NAME; it ended with status $status"
            return
        fi
        sleep "$PAUSE"
    done
}

# The service takes the machine away at its limit, with 30 seconds' notice; the worker is told before, and can save at leisure.
end_in_time() {
    local margin=$((LIMIT / 10))
    [ "$margin" -le 90 ] || margin=90
    sleep $((LIMIT - SECONDS - margin))
    touch "$STATE/expired"
    docker stop --time 60 "$NAME" > /dev/null
}

job() {
    again read_metadata || { say "the metadata server does not answer"; return; }
    read_args
    end_in_time > /dev/null 2>&1 &
    again has_driver || { close failed "no GPU driver works on $NAME: $(tail -n 1 "$STATE/driver")"; return; }
    again pull || { close failed "the image $IMAGE cannot be pulled: $(tail -n 1 "$STATE/pull")"; return; }
    work
    if [ -e "$STATE/expired" ]; then close stopped "the time limit was reached; what was trained is saved"; fi
}

# finish: deletes this machine. Where it may not, or nothing comes of it, at least it is turned off.
finish() {
    local status until=$((SECONDS + PATIENCE))
    trap - EXIT
    touch "$STATE/over"
    while [ "$SECONDS" -lt "$until" ]; do
        status=$(call --request DELETE "${COMPUTE%/}/projects/${PROJECT:-}/zones/${ZONE##*/}/instances/${NAME:-}")
        say "deletion of this machine: $status"
        case $status in
            403) break ;;
            2*) sleep 60 ;; # it is about to go
            *) sleep "$PAUSE" ;;
        esac
    done
    poweroff
}

mkdir -p "$STATE" && chmod 700 "$STATE" && rm -f "$STATE/stopping" "$STATE/expired"
export DOCKER_CONFIG=$STATE/docker
trap finish EXIT
if [ -e "$STATE/over" ]; then
    again read_metadata # started anew after its end: there is nothing left to do but that
else
    job
fi
