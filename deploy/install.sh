#!/bin/sh
# Installs from an unpacked archive of `make pack`; no network is used.
#   sh install.sh DIRECTORY       the program with an environment of its own; $PYTHON is the Python of the wheels
#   sh install.sh --image NAME    the image; $ENGINE is docker or podman
set -eu

cd "$(dirname "$0")"
sha256sum --quiet --check SHA256SUMS || { echo 'install: this is not what was packed' >&2; exit 1; }

if [ "${1:-}" = --image ]; then
    image=$(sed -n 's/^ARG PYTHON_IMAGE=//p' tree/Dockerfile)
    ${ENGINE:-docker} load -i base-image.tar
    ${ENGINE:-docker} build --network none --build-arg "PYTHON_IMAGE=${PYTHON_IMAGE:-$image}" -t "$2" tree
    exit
fi

case ${1:?a directory to install into} in
    /*) target=$1 ;;
    *) echo 'install: the directory must begin with /' >&2; exit 1 ;;
esac
[ ! -e "$target" ] || { echo "install: $target is there already" >&2; exit 1; }
mkdir -p "$target"
cd tree  # the steps of the image
sh deploy/image.sh packages "$target"
sh deploy/image.sh program "$target"
echo "install: done. cd $target && .venv/bin/python main.py check"
