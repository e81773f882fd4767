# shellcheck shell=bash disable=SC2034,SC2153,SC2154
# What setup and destroy share: names, options, checks, and running a command or only printing it.
# Written for bash 3.2, which is what macOS has.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}") # as `cloud` has called it: from the project's folder, where it lies in that
# shellcheck source-path=SCRIPTDIR source=names.sh
. "$here/names.sh"

DRY_RUN=${DRY_RUN:-}
PROJECT=${PROJECT:-${GOOGLE_CLOUD_PROJECT:-}}
GITHUB_REPO=${GITHUB_REPO:-}
BILLING_ACCOUNT=${BILLING_ACCOUNT:-}
WAIT=${WAIT:-5} # seconds between attempts while Google passes news around
# In no child's environment, and never on a command line: gcloud reads it from its standard input.
wandb_key=${WANDB_API_KEY:-}
unset WANDB_API_KEY
export CLOUDSDK_CORE_DISABLE_PROMPTS=1 GH_PROMPT_DISABLED=1

changes=0 # how many commands changed something
found=""  # what the last look has found
fresh=""  # what was made just now, and so has nothing to look for in it
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
# What time heals: a new account or API is not known everywhere at once, and two writers of a policy exclude each other.
PASSING="does not exist|has not been used in project|SERVICE_DISABLED|concurrent policy changes|UNAVAILABLE|INTERNAL"
ABSENT="NOT_FOUND|not found|404"

# In a dry run a comment, so that what is printed is a script.
say() { printf '%s%-9s %s\n' "${DRY_RUN:+# }" "$1" "$2"; }

stop() {
    printf '%s\n' "$*" >&2
    exit 1
}

is_dry() { [ -n "$DRY_RUN" ]; }

# Prints a command so that it can be pasted into a shell.
show() {
    local word text=""
    for word in "$@"; do
        case $word in
            *\'*) text="$text $(printf %q "$word")" ;;
            *[!A-Za-z0-9_./:=,@%+-]*) text="$text '$word'" ;;
            *) text="$text $word" ;;
        esac
    done
    printf '%s\n' "${text# }"
}

failed() {
    cat "$errors" >&2
    if grep -q "marked for deletion" "$errors"; then
        stop "Google keeps the name of a deleted role for 37 days: choose another one in $here/names.sh, and run the same again."
    fi
    stop "This command failed, and nothing was done after it: $(show "$@")
Once that is put right, run the same again: it goes on where it stopped."
}

# retry COMMAND...: until it succeeds; false when it has failed in a way that waiting does not heal.
retry() {
    local attempt=1
    until "$@" 2> "$errors" < /dev/null; do
        if [ "$attempt" -ge 12 ] || ! grep -Eq "$PASSING" "$errors"; then return 1; fi
        attempt=$((attempt + 1))
        sleep "$WAIT"
    done
}

# Changes something. In a dry run the command is printed instead.
run() {
    if is_dry; then
        show "$@"
        return
    fi
    retry "$@" > /dev/null || failed "$@"
    changes=$((changes + 1))
}

# The same, where what it is for may not be there yet: false then, and the script goes on.
may() {
    if is_dry; then
        show "$@"
    elif retry "$@" > /dev/null; then
        changes=$((changes + 1))
    else
        grep -q "does not exist" "$errors" || failed "$@"
        return 1
    fi
}

# Looks for something, with what is printed in $found. False when it is not there, and in a dry run, which looks nowhere;
# any other trouble ends the script.
there() {
    found=""
    if is_dry; then return 1; fi
    if found=$(retry "$@"); then return 0; fi
    found=""
    grep -Eq "$ABSENT" "$errors" || failed "$@"
    return 1
}

is_fresh() { [[ " $fresh " == *" $1 "* ]]; }

has_line() { grep -Fxq -- "$1" <<< "$found"; }

# policy COMMAND RESOURCE [FLAG...]: runs, or looks with, one of gcloud's commands for the policy of a resource of ours.
policy() {
    local with=$1 command=$2 on=$3 words flags=() name
    shift 3
    case $on in
        project) words=(projects) name=$PROJECT ;;
        bucket) words=(storage buckets) name=gs://$BUCKET ;;
        registry) words=(artifacts repositories) flags=(--location="$REGION") name=$SLUG ;;
        secret) words=(secrets) name=$SECRET ;;
        launcher) words=(iam service-accounts) name=$launcher ;;
        trainer) words=(iam service-accounts) name=$trainer ;;
    esac
    "$with" gcloud "${words[@]}" "$command" "$name" ${flags[@]+"${flags[@]}"} --project="$PROJECT" "$@"
}

# change_roles add|remove RESOURCE [ROLE MEMBER]...: those that are not as they should be; what was found stays in $found.
change_roles() {
    local verb=$1 on=$2
    shift 2
    found=""
    is_fresh "$on" || policy there get-iam-policy "$on" --flatten="bindings[].members" \
        --format="value[separator=' '](bindings.role,bindings.members,bindings.condition.expression)" || true
    while [ $# -gt 0 ]; do
        # A dry run has found nothing, and shows all.
        if [ "$verb" = add ]; then
            has_line "$1 $2 " || policy run add-iam-policy-binding "$on" --role="$1" --member="$2" --condition=None
        elif is_dry || grep -Fq -- "$1 $2 " <<< "$found"; then
            policy run remove-iam-policy-binding "$on" --role="$1" --member="$2" --all # whatever its condition
        fi
        shift 2
    done
}

# Calls change_roles for what the two accounts may do. Those for jobs hold for all jobs of the Google Cloud project: neither
# Vertex AI nor Batch knows conditions on names (https://cloud.google.com/iam/docs/conditions-resource-attributes), so it is
# the launcher that keeps to this project's labels. Who shares a Google Cloud project shares that.
all_roles() {
    local launch=serviceAccount:$launcher train=serviceAccount:$trainer on
    for on in "${@:2}"; do
        case $on in
            project) set -- "$1" \
                roles/aiplatform.user "$launch" \
                roles/batch.jobsEditor "$launch" \
                roles/logging.viewer "$launch" \
                roles/serviceusage.serviceUsageViewer "$launch" \
                "projects/$PROJECT/roles/$LAUNCHER_ROLE" "$launch" \
                roles/batch.agentReporter "$train" \
                roles/logging.logWriter "$train" ;;
            # The legacy role is for looking at the bucket itself: whether it is there, and in which region.
            bucket) set -- "$1" \
                roles/storage.objectUser "$launch" \
                roles/storage.legacyBucketReader "$launch" \
                roles/storage.objectUser "$train" \
                roles/storage.legacyBucketReader "$train" ;;
            registry) set -- "$1" \
                roles/artifactregistry.writer "$launch" \
                roles/artifactregistry.reader "$train" ;;
            trainer) set -- "$1" roles/iam.serviceAccountUser "$launch" ;;
            launcher) set -- "$1" roles/iam.workloadIdentityUser \
                "principalSet://iam.googleapis.com/$pool/attribute.repository_id/$repository_id" ;;
            secret) set -- "$1" \
                roles/secretmanager.viewer "$launch" \
                roles/secretmanager.secretAccessor "$train" ;;
        esac
        change_roles "$1" "$on" "${@:2}"
    done
}

# The roles of Vertex AI's own accounts in this Google Cloud project, with which it pulls images: in $agents, as change_roles
# takes them. Wants $number.
name_agents() {
    local agent=serviceAccount:service-$number@gcp-sa-aiplatform
    agents=(roles/aiplatform.serviceAgent "$agent.iam.gserviceaccount.com"
        roles/aiplatform.customCodeServiceAgent "$agent-cc.iam.gserviceaccount.com")
}

# Looks for this project's budget: "id amount" in $found. False when you may not see budgets.
find_budget() {
    found=""
    if is_dry; then return 0; fi
    [ -n "$BILLING_ACCOUNT" ] || return 1
    found=$(retry gcloud billing budgets list --billing-account="$BILLING_ACCOUNT" --billing-project="$PROJECT" \
        --filter="displayName=$SLUG AND budgetFilter.projects:projects/$number" \
        --format="value[separator=' '](name.basename(),amount.specifiedAmount.units)")
}
