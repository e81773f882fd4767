#!/bin/bash
# Prepares what the tests of images and workflows need on a Debian machine, as root: a Docker engine, the program of a
# registry, Slurm, Apptainer, and two images. What is there already is left as it is, so a second run takes a second.
#
#   python:3.13-slim       the base of the project's image
#   stage-runner:latest    what `ubuntu-latest` is to a workflow that act runs
#
# Where Docker Hub cannot be reached both images are made from Debian's packages; their archives stay in build/engine.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly ARCHIVES=build/engine
readonly LOG=/var/log/dockerd.log
readonly CERTIFICATES=/etc/ssl/certs/ca-certificates.crt
readonly SUITE=trixie # its Python is 3.13, and its buildx builds on the engine of the release before
# Debian's own, of its unstable release: no other has it. Not on PATH: most machines have none, and tests say where it is.
readonly APPTAINER=/opt/stage-apptainer
# A newer client without the buildx plugin may stand before this one on PATH, and cannot build.
readonly DOCKER=/usr/bin/docker

main() {
    if ! grep -qx 'ID=debian' /etc/os-release || ((EUID != 0)); then
        echo "make engine: prepares a Docker engine on Debian, as root; elsewhere install Docker yourself." >&2
        exit 1
    fi
    install_packages
    install_apptainer
    start_engine
    pull_or python:3.13-slim make_python
    present stage-runner:latest || make_runner
    "$DOCKER" images --format '{{.Repository}}:{{.Tag}} {{.Size}}' | grep -E '^(python:3.13-slim|stage-runner:latest) '
}

say() { echo "engine: $*"; }

present() { "$DOCKER" image inspect "$1" >/dev/null 2>&1; }

install_packages() {
    local package missing=()
    for package in docker.io docker-registry mmdebstrap iptables \
        slurmctld slurmd slurm-client munge openssh-server openssh-client rsync curl \
        patchelf squashfs-tools squashfuse fuse-overlayfs; do
        dpkg-query --show --showformat='${Status}\n' "$package" 2>/dev/null | grep -qx 'install ok installed' ||
            missing+=("$package")
    done
    if ((${#missing[@]})); then
        say "apt-get install ${missing[*]}"
        apt-get update -qq
        # Neither the engine nor the registry, nor Slurm or sshd, is to be started by the packages themselves.
        DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
            apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    fi
}

# Its programs run on this release with the C library that they were built for; those that it calls are this release's.
install_apptainer() {
    if [[ -x $APPTAINER/usr/bin/apptainer ]]; then return; fi
    say "installing Apptainer from Debian sid in $APPTAINER"
    rm -rf "$APPTAINER.new" "$APPTAINER"
    # A mirror may be some weeks behind.
    mmdebstrap --quiet --variant=extract --include=apptainer --aptopt='Acquire::Check-Valid-Until "false"' \
        sid "$APPTAINER.new"
    find "$APPTAINER.new"/usr/{bin,sbin} ! -type d ! -name apptainer -delete
    local program usr="$APPTAINER.new/usr"
    for program in "$usr/bin/apptainer" "$usr"/lib/*/apptainer/bin/starter; do
        patchelf --set-interpreter "$APPTAINER/usr$(patchelf --print-interpreter "$program")" --force-rpath \
            --set-rpath "$APPTAINER/usr/lib/$(uname -m)-linux-gnu" "$program"
    done
    # It looks for its settings beside its programs.
    ln -s ../etc ../var "$usr"
    ln -s ../../etc ../../var "$usr/lib"
    mv "$APPTAINER.new" "$APPTAINER"
}

start_engine() {
    if "$DOCKER" info >/dev/null 2>&1; then return; fi
    say "starting dockerd, which writes to $LOG"
    setsid --fork dockerd </dev/null >"$LOG" 2>&1
    for _ in {1..120}; do
        if "$DOCKER" info >/dev/null 2>&1; then return; fi
        sleep 0.5
    done
    tail -n 20 "$LOG" >&2
    say "dockerd has not answered within a minute: see above" >&2
    exit 1
}

# pull_or IMAGE COMMAND: the image from Docker Hub; where that cannot be reached, the one that the command makes.
pull_or() {
    if present "$1"; then return; fi
    say "pulling $1"
    timeout 300 "$DOCKER" pull --quiet "$1" 2>/dev/null || "$2"
}

# debian NAME PACKAGES HOOK: a root file system in build/engine/NAME.tar. HOOK is a shell line; the new root is "$1".
debian() {
    mkdir -p "$ARCHIVES"
    if [[ ! -s $ARCHIVES/$1.tar ]]; then
        say "making $1 from packages of Debian $SUITE"
        # Behind a company's proxy the certificates of this machine are the ones that count.
        mmdebstrap --quiet --variant=minbase --include="$2" \
            --customize-hook="cp $CERTIFICATES \"\$1$CERTIFICATES\"" --customize-hook="$3" \
            "$SUITE" "$ARCHIVES/$1.new.tar"
        mv "$ARCHIVES/$1.new.tar" "$ARCHIVES/$1.tar"
    fi
}

# import_as IMAGE NAME [CHANGES]: the archive as an image whose programs trust this machine's certificates.
import_as() {
    local image=$1 name=$2
    shift 2
    say "importing $image"
    "$DOCKER" import -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8' \
        -c "ENV SSL_CERT_FILE=$CERTIFICATES PIP_CERT=$CERTIFICATES NODE_EXTRA_CA_CERTS=$CERTIFICATES" \
        "$@" "$ARCHIVES/$name.tar" "$image" >/dev/null
}

make_python() {
    # As in the real image, python and pip are in /usr/local/bin, and pip may install beside the system's packages.
    # shellcheck disable=SC2016 # mmdebstrap's hooks expand "$1" themselves
    debian python python3,python3-venv,python3-pip,ca-certificates \
        'cd "$1/usr/local/bin" && ln -s /usr/bin/python3 python && ln -s /usr/bin/python3 python3 &&
         ln -s /usr/bin/pip3 pip && rm "$1"/usr/lib/python3.*/EXTERNALLY-MANAGED'
    import_as python:3.13-slim python -c 'CMD ["python3"]'
}

make_runner() {
    # shellcheck disable=SC2016
    debian runner nodejs,git,ca-certificates,python3,python3-venv,python3-pip,curl,jq,sudo,make,docker-cli,docker-buildx,gh \
        'ln -s /usr/bin/python3 "$1/usr/local/bin/python" && rm "$1"/usr/lib/python3.*/EXTERNALLY-MANAGED'
    import_as stage-runner:latest runner -c 'CMD ["bash"]'
}

main
