#!/usr/bin/env bash
# Unpacks packages of a newer Debian into a folder, from the mirror that apt uses here. Nothing is installed.
#   usage: unpack.sh FOLDER PACKAGE...
set -euo pipefail
release=forky # the first with the Compose, Kustomize, PostgreSQL and Docker Engine of today
folder=$(realpath --canonicalize-missing "$1") && shift
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
work=$folder.unpacking
rm -rf "$work"
mkdir -p "$work"/{debs,unpacked,lists/partial}
trap 'rm -rf "$work"' EXIT
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" > "$work/sources.list"
apt=(apt-get -qq -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$work/lists" -o Acquire::Check-Valid-Until=false)
"${apt[@]}" update
(cd "$work/debs" && "${apt[@]}" download "$@")
for deb in "$work"/debs/*.deb; do dpkg-deb --extract "$deb" "$work/unpacked"; done
rm -rf "$folder"
mv "$work/unpacked" "$folder" # so that a folder that is there is whole
