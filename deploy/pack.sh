#!/bin/sh
# Packs all that a machine without a network needs into one archive, with a sum beside it: make pack
#   sh deploy/pack.sh ARCHIVE.tar
# In it: the tree with its wheels, the base image where $ENGINE (podman or docker) has it, a list of what the packages
# are (SBOM, CycloneDX), the sums of all files, and install.sh. `make wheels` comes first; $CYCLONEDX is cyclonedx-py.
set -eu

archive=$1
case $archive in
    "~/"*) archive=$HOME/${archive#"~/"} ;;  # zsh has not done it
esac
image=$(sed -n 's/^ARG PYTHON_IMAGE=//p' Dockerfile)
image=${PYTHON_IMAGE:-$image}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/consumer/tree"

[ -d deploy/wheels ] || { echo 'pack: run `make wheels` first' >&2; exit 1; }
# What git knows: a file of secrets that somebody has left here goes to nobody. Nor is the archive before a new one.
case $archive in
    /* | ../*) set -- . ;;
    *) set -- . ":(exclude)$archive" ":(exclude)$archive.sha256" ;;
esac
# Not through pipes: what the first tar cannot read would be missing in the archive, and nothing would say so.
git ls-files --cached -z -- "$@" > "$work/listed"
# Git lists what was deleted, too, as long as that is not committed.
xargs -0 sh -c 'for file; do [ ! -e "$file" ] && [ ! -L "$file" ] || printf "%s\0" "$file"; done' sh \
    < "$work/listed" > "$work/files"
others=$(git ls-files --others --exclude-standard --directory --no-empty-directory -- "$@" | tr '\n' ' ')
[ -z "$others" ] || echo "pack: not taken, for git does not know them: ${others% } (where the worker needs it: git add)" >&2
mine=$(sh "$(dirname "$0")/image.sh" own) || :  # a name with a blank: git may not even know it
# shellcheck disable=SC2086  # no name has a blank in it
ignored=$([ -z "$mine" ] || git ls-files --others --ignored --exclude-standard -- $mine | grep -v -e __pycache__/ -e '/[.]' | sed -n '1,20p; 21s/.*/and more/p' | tr '\n' ' ')
[ -z "$ignored" ] || echo "pack: not taken, for .gitignore names them: ${ignored% } (where the worker needs it: git add --force)" >&2
named=$([ ! -e requirements.lock ] || sh "$(dirname "$0")/image.sh" by_address)
[ -z "$named" ] || echo "pack: pip fetches $named from its address in requirements.lock, also where the wheel is: without a network it must come from an index" >&2
tar --null -T "$work/files" -cf "$work/tree.tar"
tar -xf "$work/tree.tar" -C "$work/consumer/tree"
rm "$work/tree.tar"
for needed in main.py worker.py Dockerfile; do
    [ -e "$work/consumer/tree/$needed" ] ||
        { echo "pack: git does not know $needed: git add what the worker needs" >&2; exit 1; }
done
cp -r deploy/wheels "$work/consumer/tree/deploy/"
cp deploy/install.sh "$work/consumer/"

"$CYCLONEDX" requirements requirements.lock --output-reproducible --output-file "$work/consumer/sbom.cdx.json"

echo "$image" > "$work/consumer/base-image.txt"  # install.sh builds from this one
if ${ENGINE:-docker} image inspect "$image" >/dev/null 2>&1; then
    ${ENGINE:-docker} save -o "$work/consumer/base-image.tar" "$image"
else
    echo "pack: ${ENGINE:-docker} has no image $image: the archive is without it (pull it, or set PYTHON_IMAGE, ENGINE)" >&2
fi

(cd "$work/consumer" && find . -type f ! -name SHA256SUMS -print0 | LC_ALL=C sort -z | xargs -0 sha256sum > SHA256SUMS)
tar -C "$work" -cf "$archive" consumer
(cd "$(dirname "$archive")" && sha256sum "$(basename "$archive")" > "$(basename "$archive").sha256")
echo "pack: $archive, $(du -h "$archive" | cut -f1), $(wc -l < "$work/consumer/SHA256SUMS") files"
