# shellcheck shell=bash disable=SC2154
# What the repository on GitHub is told, and the rule that a person has to agree.

# What a plan does not have (environments of private repositories are not in the free one, and their reviewers in few) is
# said and is no failure: the workflow trains without asking.
make_environment() {
    local path=repos/$repository/environments/$ENVIRONMENT
    there gh api "$path" --jq '.name, (.protection_rules[]?.reviewers[]?.reviewer.login)' || allowed environment "$path" || return 0
    if [ -n "$REVIEWER" ] && ! has_line "$REVIEWER"; then
        allowed reviewer "$path" -F "reviewers[][type]=User" -F "reviewers[][id]=$reviewer_id" || return 0
    fi
    say GitHub "environment '$ENVIRONMENT' of $repository"
}

# allowed WHAT PATH [FLAG...]: false, and said, where GitHub does not take such settings of an environment.
allowed() {
    local what=$1
    shift
    set -- gh api --method PUT "$@" --silent
    if is_dry; then
        show "$@"
    elif retry "$@" > /dev/null; then
        changes=$((changes + 1))
    else
        grep -Eq "HTTP (403|404|422)" "$errors" || failed "$@"
        say GitHub "NO $what '${REVIEWER:-$ENVIRONMENT}', a push trains without asking anybody; private repositories need another plan: $(cat "$errors")"
        return 1
    fi
}

tell_github() {
    make_environment
    there gh api "repos/$repository/labels/$LABEL" --jq .name ||
        run gh label create "$LABEL" --force --description "Train this for a short while" --color 1d76db --repo "$repository"
    there gh api "repos/$repository/actions/variables?per_page=30" --jq '.variables[] | "\(.name)=\(.value)"' || true
    set_variable GCP_PROJECT "$PROJECT"
    set_variable GCP_WORKLOAD_IDENTITY_PROVIDER "$pool/providers/$PROVIDER"
    set_variable GCP_SERVICE_ACCOUNT "$launcher"
    set_variable CLOUD_IMAGE "$image" # last: it tells the workflow that all is prepared
    say GitHub "variables and label '$LABEL' of $repository"
}

set_variable() { has_line "$1=$2" || run gh variable set "$1" --body "$2" --repo "$repository"; }
