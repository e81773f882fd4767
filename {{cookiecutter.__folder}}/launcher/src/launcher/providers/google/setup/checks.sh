# shellcheck shell=bash disable=SC2034,SC2153,SC2154
# What can be known beforehand is found out here, so that nothing is left half done: each finding is one sentence.

# check CHECK...: makes those checks, and sets $launcher, $trainer, $server, $image and $pool besides what they set.
check() {
    local each
    [[ ! $PROJECT =~ [^a-z0-9-] ]] || stop "'$PROJECT' is no project id: write PROJECT=my-project."
    if is_dry; then
        find_repository || repository=OWNER/NAME
        PROJECT=${PROJECT:-PROJECT_ID} number=PROJECT_NUMBER repository_id=REPOSITORY_ID owner_id=OWNER_ID reviewer_id=USER_ID
        BILLING_ACCOUNT=${BILLING_ACCOUNT:-BILLING_ACCOUNT} bucket=""
    else
        for each in "$@"; do "$each"; done
    fi
    launcher=$LAUNCHER@$PROJECT.iam.gserviceaccount.com
    trainer=$TRAINER@$PROJECT.iam.gserviceaccount.com
    server=$SERVER@$PROJECT.iam.gserviceaccount.com
    image=$REGION-docker.pkg.dev/$PROJECT/$SLUG/train
    pool=projects/$number/locations/global/workloadIdentityPools/$POOL
}

check_programs() {
    command -v gcloud > /dev/null ||
        stop "gcloud is missing: install the Google Cloud CLI (https://cloud.google.com/sdk/docs/install)."
    command -v gh > /dev/null || stop "gh is missing: install the GitHub CLI (https://cli.github.com)."
    gh variable --help > /dev/null 2>&1 ||
        stop "This gh is too old to know 'gh variable': install a newer GitHub CLI (https://cli.github.com)."
    gh auth status > /dev/null 2>&1 || stop "You are not logged in to GitHub: run 'gh auth login' first."
}

# refused SENTENCE: why Google has refused the first question; the login is looked at only now, for each call takes a second.
refused() {
    gcloud auth print-access-token > /dev/null 2>&1 ||
        stop "You are not logged in to Google Cloud: run 'gcloud auth login' first."
    stop "$1"
}

# Sets $PROJECT, $number, $billing (True or not) and $BILLING_ACCOUNT.
check_project() {
    local state choose="choose one with PROJECT=id ('gcloud projects list' shows yours)."
    if [ -z "$PROJECT" ]; then PROJECT=$(gcloud config get-value project 2> /dev/null || true); fi
    [ -n "$PROJECT" ] || stop "No Google Cloud project is chosen: $choose"
    state=$(gcloud projects describe "$PROJECT" --format="value[separator=' '](lifecycleState,projectNumber,projectId)" \
        2> /dev/null) || refused "There is no project '$PROJECT' that you may use: $choose"
    read -r state number PROJECT <<< "$state"
    [ "$state" = ACTIVE ] || stop "The project '$PROJECT' is being deleted: $choose"
    state=$(gcloud billing projects describe "$PROJECT" \
        --format="value[separator=' '](billingEnabled,billingAccountName.basename())" 2> /dev/null) || state=""
    billing=${state%% *}
    BILLING_ACCOUNT=${BILLING_ACCOUNT:-${state#* }}
}

check_billing() {
    [ "$billing" = True ] ||
        stop "The project '$PROJECT' has no billing account: link one at https://console.cloud.google.com/billing/linkedaccount?project=$PROJECT."
}

# Sets $repository to what GITHUB_REPO or `origin` says; false when nothing does.
find_repository() {
    local url
    repository=$GITHUB_REPO
    if [ -z "$repository" ]; then
        url=$(git remote get-url origin 2> /dev/null) || return 1
        case $url in *github.com[:/]*) ;; *) return 1 ;; esac
        repository=${url#*github.com[:/]}
        repository=${repository%/}
        repository=${repository%.git}
    fi
    [[ $repository =~ ^[A-Za-z0-9_-]+/[A-Za-z0-9._-]+$ ]] ||
        stop "'$repository' is no repository on GitHub: write GITHUB_REPO=owner/name."
}

# Sets $repository, $repository_id and $owner_id.
check_repository() {
    local answer admin
    find_repository ||
        stop "This folder has no repository on GitHub: make one with 'gh repo create', or say which one with GITHUB_REPO=owner/name."
    answer=$(gh api "repos/$repository" --jq '"\(.id) \(.owner.id) \(.permissions.admin)"' 2> /dev/null) ||
        stop "There is no repository '$repository' on GitHub that you may see: make it, or say which one with GITHUB_REPO=owner/name."
    read -r repository_id owner_id admin <<< "$answer"
    [[ $repository_id =~ ^[0-9]+$ && $owner_id =~ ^[0-9]+$ ]] ||
        stop "GitHub gave no numbers for '$repository': see what 'gh api repos/$repository' prints."
    [ "$admin" = true ] || stop "You may not set variables of '$repository': ask one of its administrators to run this."
}

# Sets $reviewer_id.
check_reviewer() {
    [ -n "$REVIEWER" ] || return 0
    reviewer_id=$(gh api "users/$REVIEWER" --jq .id 2> /dev/null) ||
        stop "There is nobody '$REVIEWER' on GitHub: write REVIEWER=login."
}

# Sets $bucket to the settings of the bucket, or to nothing when there is none.
# The names of buckets are the whole world's, and a bucket cannot be moved.
check_bucket() {
    local settings="location,lifecycle_config,public_access_prevention,soft_delete_policy,uniform_bucket_level_access"
    local describe=(gcloud storage buckets describe "gs://$BUCKET" --format="json($settings)")
    local rename="choose another name in pyproject.toml ([tool.launcher]) and .dvc/config."
    if bucket=$("${describe[@]}" 2> "$errors" < /dev/null); then
        bucket=$(packed "$bucket")
        [[ $bucket == *"\"location\":\"$(tr '[:lower:]' '[:upper:]' <<< "$REGION")\""* ]] ||
            stop "The bucket gs://$BUCKET is not in $REGION, where the jobs are, so every byte would be paid for: $rename"
    elif ! grep -Eq "$ABSENT|has not been used in project|SERVICE_DISABLED" "$errors"; then
        grep -Eq "permission|403" "$errors" || failed "${describe[@]}"
        stop "The bucket gs://$BUCKET belongs to somebody else: $rename"
    fi
}

# A JSON text on one line, to compare it however it was laid out.
packed() { tr -d '[:space:]' <<< "$1"; }
