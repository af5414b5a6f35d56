#!/bin/sh
# Brings this copy to another version of the frame: fetches it, and runs the updater of that version on this copy.
#   sh deploy/update.sh FROM [TO] [--check] [--markers] [--base COMMIT]
# FROM: a clone, an address or a bundle. TO: a tag, branch or commit; without it the newest version, else FROM's HEAD.
set -eu

[ $# -gt 0 ] && [ -n "$1" ] || { echo 'say where the frame is: make update FROM=path, address or bundle' >&2; exit 2; }
from=$1 to=${2:-}
[ $# -lt 2 ] && shift || shift 2
case $from in
    [/~]* | *:*) ;;
    *) from=$PWD/$from ;;
esac
copy=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

git init --quiet --bare "$work/frame"
if ! said=$(git -C "$work/frame" fetch --quiet "$from" '+refs/heads/*:refs/heads/*' '+refs/tags/*:refs/tags/*' \
    '+HEAD:refs/from/head' 2>&1); then
    # A bundle need not have a HEAD.
    if ! said=$(git -C "$work/frame" fetch --quiet "$from" '+refs/heads/*:refs/heads/*' '+refs/tags/*:refs/tags/*' 2>&1); then
        echo "FROM=$from cannot be read: $(echo "$said" | tr '\n' ' ')" >&2
        exit 2
    fi
fi
back=
if [ -n "$to" ]; then
    back=--back
else
    to=$(git -C "$work/frame" tag --list --sort=-version:refname '[v0-9]*' | head -1)
    [ -n "$to" ] || to=$(git -C "$work/frame" for-each-ref --format='%(refname)' --count=1 refs/from/head refs/heads/main refs/heads)
fi
git -C "$work/frame" rev-parse --quiet --verify "$to^{commit}" >/dev/null ||
    { echo "FROM=$from has no version $to: its tags are $(git -C "$work/frame" tag --list | tr '\n' ' ')" >&2; exit 2; }
mkdir "$work/new"
git -C "$work/frame" archive "$to" deploy utils 2>/dev/null | tar -xf - -C "$work/new" 2>/dev/null || true
[ -e "$work/new/deploy/frame/__main__.py" ] ||
    { echo "version $to of the frame cannot update copies yet: take a newer one, with TO=…" >&2; exit 2; }
cd "$work/new"
exec_python=${FRAME_PYTHON:-python3}
PYTHONDONTWRITEBYTECODE=1 "$exec_python" -m deploy.frame update --copy "$copy" --frame "$work/frame" --to "$to" $back "$@"
