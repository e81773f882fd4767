# shellcheck shell=bash disable=SC2154
# What virtual machines need: who may look at them, and a firewall around them.

# make_role FILE ROLE: a role of this project with the permissions in that file, and no others.
make_role() {
    local of=(--project="$PROJECT") from=(--file="$here/$1" --quiet)
    # What was deleted keeps its name, and has to be taken back.
    if ! there gcloud iam roles describe "$2" "${of[@]}" \
        --format="value[separator=' '](deleted.yesno(yes=DELETED,no=ACTIVE),includedPermissions.list(separator=' '))"; then
        run gcloud iam roles create "$2" "${of[@]}" "${from[@]}"
        return
    fi
    case $found in
        DELETED*) run gcloud iam roles undelete "$2" "${of[@]}" ;;
    esac
    [ "$(words "${found#* }")" = "$(words "$(permissions "$1")")" ] ||
        run gcloud iam roles update "$2" "${of[@]}" "${from[@]}"
}

# The permissions that a file lists, without its comments.
permissions() {
    local dash name rest
    while read -r dash name rest; do
        if [ "$dash" = - ]; then printf '%s\n' "$name"; fi
    done < "$here/$1"
}

# The words of a text in order, to compare lists however they were written.
words() { tr -s '[:space:]' '\n' <<< "$1" | LC_ALL=C sort; }

# Machines of Batch have an address of their own, to reach the registry. Nobody reaches them there: the network `default` comes with
# rules that let SSH in from everywhere, so one rule closes all of it, and one before it opens SSH to Google's own proxy
# (Identity-Aware Proxy), which wants a login and a right first.
make_firewall() {
    there gcloud compute firewall-rules list --project="$PROJECT" --filter="name=($FIREWALL-iap $FIREWALL-closed)" \
        --format="value[separator=' '](name,priority,sourceRanges.list(),targetTags.list(),disabled)" || true
    if [ -z "$found" ] && ! is_dry && ! there gcloud compute networks describe default --project="$PROJECT"; then
        say firewall "NOT SET, there is no network 'default', and cloud=batch needs one: 'gcloud compute networks create default', and this again"
        return
    fi
    make_rule "$FIREWALL-iap" 800 allow tcp:22 35.235.240.0/20
    make_rule "$FIREWALL-closed" 900 deny all 0.0.0.0/0
    say firewall "SSH to machines only through Google's proxy, and nothing else"
}

# make_rule NAME PRIORITY allow|deny WHAT FROM
make_rule() {
    local settings=(--project="$PROJECT" --priority="$2" --rules="$4" --source-ranges="$5" --target-tags="$SLUG")
    if ! grep -q "^$1 " <<< "$found"; then
        run gcloud compute firewall-rules create "$1" --network=default --direction=INGRESS --action="$3" "${settings[@]}"
    elif ! has_line "$1 $2 $5 $SLUG False"; then
        run gcloud compute firewall-rules update "$1" --no-disabled "${settings[@]}"
    fi
}
