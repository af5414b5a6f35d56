#!/bin/sh
# Installs from an unpacked archive of `make pack`; no network is used.
#   sh install.sh DIRECTORY       the program with an environment of its own; $PYTHON is the Python of the wheels
#   sh install.sh --image NAME    the image; $ENGINE is docker or podman, with options where it needs some
set -eu
umask 022  # the user of the unit must be able to enter what is made here, and the directories above it

cd "$(dirname "$0")"
sha256sum --quiet --check SHA256SUMS || { echo 'install: this is not what was packed' >&2; exit 1; }

if [ "${1:-}" = --image ]; then
    image=$(cat base-image.txt)
    if [ -e base-image.tar ]; then
        ${ENGINE:-docker} load -i base-image.tar
    else
        echo "install: no base image was packed; ${ENGINE:-docker} must have $image already" >&2
    fi
    export BUILDAH_FORMAT=docker  # of podman's two formats the one that has a HEALTHCHECK
    ${ENGINE:-docker} build --network none --build-arg "PYTHON_IMAGE=$image" -t "${2:?a name for the image}" tree
    exit
fi

case ${1:?a directory to install into} in
    /*) target=$1 ;;
    *) echo 'install: the directory must begin with /' >&2; exit 1 ;;
esac
[ ! -e "$target" ] || { echo "install: $target is there already: install beside it, then rename the two (docs/deploy.md, systemd)" >&2; exit 1; }
mkdir -p "$target"
trap 'rm -rf "$target"' EXIT  # of half a program nothing is left, so that the next try may begin
trap 'exit 1' HUP INT TERM
cd tree  # the steps of the image
sh deploy/image.sh packages "$target"
sh deploy/image.sh program "$target"
trap - EXIT
echo "install: done. cd $target && .venv/bin/python main.py check"
