#!/bin/sh
# Brings this copy to another version of the frame: fetches it, and runs the updater of that version on this copy.
#   sh deploy/update.sh FROM [TO] [--check] [--markers] [--base COMMIT]
# FROM: a clone, an address or a bundle. TO: a tag, branch or commit; without it the newest version, else FROM's HEAD.
# $FRAME_PYTHON: the Python that runs it, else python3.
set -eu

[ $# -gt 0 ] && [ -n "$1" ] || { echo 'say where the frame is: make update FROM=path, address or bundle' >&2; exit 2; }
from=$1 to=${2:-}
[ $# -lt 2 ] && shift || shift 2
case $from in
    [/~]* | *:*) ;;
    *) from=$PWD/$from ;;
esac
copy=$PWD
without_token() {  # a pipeline keeps its log; git shows a token that is the user of an address
    sed 's,://[^/[:space:]]*@,://,g'
}
shown=$(printf %s "$from" | without_token)
has_no_history() {  # an archive, or what was in one
    if [ -d "$from" ]; then
        [ ! -e "$from/.git" ] && [ ! -e "$from/HEAD" ]
    else
        [ -f "$from" ] && ! head -c 16 "$from" | grep -q '^# v[0-9] git bundle'
    fi
}
if [ -d "$from" ] && [ "$(git -C "$from" rev-parse --is-shallow-repository 2>/dev/null)" = true ]; then
    echo "FROM=$shown was cloned with --depth and lacks history: run \`git fetch --unshallow\` in it" >&2
    exit 2
fi
python=${FRAME_PYTHON:-python3}
case $python in
    /*) ;;
    */*) python=$copy/$python ;;
esac
command -v git >/dev/null || { echo 'git is not there: install git 2.38 or newer' >&2; exit 2; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    { echo "$python is no Python 3.11 or newer: run \`make setup\`, or say which one with FRAME_PYTHON=…" >&2; exit 2; }
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

git init --quiet --bare "$work/frame"
if ! said=$(git --git-dir="$work/frame" fetch --quiet "$from" '+refs/heads/*:refs/heads/*' '+refs/tags/*:refs/tags/*' \
    '+HEAD:refs/from/head' 2>&1); then
    # A bundle need not have a HEAD.
    if ! said=$(git --git-dir="$work/frame" fetch --quiet "$from" '+refs/heads/*:refs/heads/*' '+refs/tags/*:refs/tags/*' 2>&1); then
        has_no_history && said='it has no git history, and nothing else tells what has changed since your version: take a clone, or a bundle of one (git bundle create frame.bundle --all)'
        echo "FROM=$shown cannot be read: $(printf '%s\n' "$said" | tr -s '\n ' ' ' | without_token)" >&2
        exit 2
    fi
fi
back=
if [ -n "$to" ]; then
    back=--back
else
    to=$(git --git-dir="$work/frame" tag --list --sort=-version:refname | grep -Ex 'v?[0-9]+([.][0-9]+)+' | head -1)
    branches=$(git --git-dir="$work/frame" for-each-ref --format='%(refname)' refs/heads)
    for each in refs/from/head refs/heads/main refs/heads/master "$branches"; do  # $branches: where it is the only one
        [ -n "$to" ] || to=$(git --git-dir="$work/frame" rev-parse --quiet --verify "$each" || true)
    done
    [ -n "$to" ] || { echo "FROM=$shown says by no tag and no HEAD which version is meant: say it with TO=…; it has" $branches >&2; exit 2; }
fi
git --git-dir="$work/frame" rev-parse --quiet --verify "$to^{commit}" >/dev/null ||
    { echo "FROM=$shown has no version $to: its tags are $(git --git-dir="$work/frame" tag --list | tr '\n' ' ')" >&2; exit 2; }
mkdir "$work/new"
git --git-dir="$work/frame" archive "$to" deploy utils 2>/dev/null | tar -xf - -C "$work/new" 2>/dev/null || true
[ -e "$work/new/deploy/frame/__main__.py" ] ||
    { echo "version $to of the frame cannot update copies yet: take a newer one, with TO=…" >&2; exit 2; }
cd "$work/new"
PYTHONDONTWRITEBYTECODE=1 "$python" -m deploy.frame update --copy "$copy" --frame "$work/frame" --to "$to" $back "$@"
