#!/bin/sh
# The steps of the Dockerfile, one for each of its RUN lines; run in the build context.
#   sh deploy/image.sh packages TARGET   the locked packages, in TARGET/.venv
#   sh deploy/image.sh program TARGET    the program beside them: *.py, and all directories of your own
#   sh deploy/image.sh own               names those: all but the frame's, hidden ones and virtual environments
# Where $WHEELS (deploy/wheels) exists, the packages come from there and from nowhere else: `make wheels` fills it.
set -eu
umask 022

packages() {
    target=$1
    set --
    if [ -d "${WHEELS:=deploy/wheels}" ]; then
        set -- --no-index --find-links "$WHEELS"
    fi
    "${PYTHON:-python3}" -m venv "$target/.venv"
    real=$(readlink -f "$target/.venv/bin/python")
    case $real in
        /root/* | /home/*) echo "$real lies in somebody's home: no other user can run it, so no unit of systemd can; PYTHON=/usr/bin/python3 takes that one" >&2 ;;
    esac
    "$target/.venv/bin/python" -m pip install --no-cache-dir --only-binary=:all: --require-hashes "$@" -r requirements.lock || {
        [ $# != 0 ] || echo 'where it says "from versions: none" a package has no wheel for this Python and machine, and nothing is built here (docs/run-and-watch.md, As a container); or the index was not reached, which stands above it' >&2
        [ $# = 0 ] || lacking "$("$target/.venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" >&2
        exit 1
    }
    # Installs nothing: it fails where the lock is older than requirements.txt.
    "$target/.venv/bin/python" -m pip install --quiet --no-index --dry-run -r requirements.txt ||
        { echo 'requirements.lock lacks a part of requirements.txt: run `make lock`' >&2; exit 1; }
    "$target/.venv/bin/python" deploy/interpreter.py
    "$target/.venv/bin/python" -m pip uninstall --quiet --yes pip  # a running container installs nothing
}

# Packages that the lock has by the address of their wheel: pip asks there, also where it is told to ask no index.
by_address() {
    sed -n 's/^\([^ #]*\) @ .*/\1/p' requirements.lock | tr '\n' ' ' | sed 's/ $//'
}

# Why $WHEELS are not enough for this Python, such as 3.13. Their names tell for which they are: cp313-cp313.
lacking() {
    named=$(by_address)
    [ -z "$named" ] || echo "pip fetches $named from its address in requirements.lock, also where $WHEELS has it: without a network it must come from an index"
    theirs=$(find "$WHEELS" -name '*.whl' | sed -n 's/.*-cp3\([0-9]*\)-cp3\1-.*/3.\1/p' | sort -u)
    case $theirs in
        '' | *[[:space:]]* | "$1") echo "$WHEELS lacks a part of requirements.lock, for this Python and machine: run \`make wheels\`" ;;
        *) echo "$WHEELS is for Python $theirs, and this is $1: set PYTHON=python$theirs, or make it for this one, where there is a network, with \`make wheels WHEELS_PYTHON=$1\`" ;;
    esac
}

own() {
    for each in */; do
        case $each in
            bench/ | deploy/ | docs/ | examples/ | tests/ | utils/ | __pycache__/ | update-in-progress/) ;;
            *)
                [ ! -e "${each}pyvenv.cfg" ] || continue
                case $each in *[[:space:]]*) echo "${each%/}: rename it, for a name with a blank cannot be taken" >&2; return 1 ;; esac
                echo "${each%/}"
                ;;
        esac
    done
}

# Files beside worker.py that are neither Python nor of the frame: what a build is told of, for they may be missed.
left_out() {
    for each in *; do
        case $each in
            *.py | *.md | *.lock | requirements*.txt | pyproject.toml | *[Cc]ompose*.y*ml) ;;
            Makefile* | GNUmakefile | Dockerfile* | Containerfile* | Jenkinsfile* | LICENSE* | NOTICE*) ;;
            *) [ ! -f "$each" ] || printf '%s ' "$each" ;;
        esac
    done
}

# Files of your own that others may not read here: in the image all may. Under a strict umask worker.py is one of them, too.
private() {
    # shellcheck disable=SC2046  # as below
    set -- $(own)
    [ $# = 0 ] || [ -z "$(find worker.py -perm -004)" ] || find "$@" -type f ! -name '*.pyc' ! -path '*/.*' ! -perm -004 | tr '\n' ' '
}

# Links of the program at $1, which was made from $2. One that leads to nothing in it, or out of it, is an error: in a
# build, which has no more than this tree, it leads to nothing. What an absolute one leads to may be mounted later.
links() {
    cd "$1"
    here=$(pwd -P)
    from=$2
    shift 2
    find "$@" -type l | while IFS= read -r each; do
        to=$(readlink "$each")
        case $to in
            "$from"/*) ;;
            /*)
                echo "${each#./} -> $to: a link, which is taken as it is: the worker needs there what it leads to" >&2
                continue
                ;;
        esac
        [ ! -e "$each" ] || case $(readlink -f "$each") in "$here"/*) continue ;; esac
        echo "${each#./} -> $to: a link to what is not in the program: put the file or directory itself there"
    done
}

program() {
    [ ! -e update-in-progress/finish.sh ] || { echo 'an update was interrupted: run `sh update-in-progress/finish.sh`' >&2; exit 1; }
    [ -f worker.py ] || { echo 'worker.py is not there, or is a link to what is not there: put the file itself here' >&2; exit 1; }
    target=$1
    from=$PWD
    mine=$(own)
    [ ! -e "$target/main.py" ] || echo "$target holds a program already: files that this version no longer has stay there; a new directory has none (docs/deploy.md, systemd)" >&2
    others=$(left_out)
    [ -z "$others" ] || echo "not taken: ${others% } (where the worker needs it: put it into a directory of your own)" >&2
    # shellcheck disable=SC2086  # no name has a blank in it
    hidden=$([ -z "$mine" ] || find $mine -name '.?*' -prune -print | tr '\n' ' ')
    [ -z "$hidden" ] || echo "not taken, for they are hidden: ${hidden% }" >&2
    opened=$(private)
    [ -z "$opened" ] || echo "readable by all who have the result: ${opened% } (keep secrets out: settings take files, as DB_PASSWORD_FILE)" >&2
    # shellcheck disable=SC2086  # no name has a blank in it
    set -- ./*.py .frame utils $mine
    [ ! -d examples ] || set -- "$@" examples # for `main.py demo`; a copy may have deleted them
    for each in *; do # a link to nothing is no directory: `own` does not see it
        [ -e "$each" ] || [ ! -L "$each" ] || set -- "$@" "$each"
    done
    # Not through a pipe: what the first tar cannot read would be missing in the image, and nothing would say so.
    # Hidden files in a directory of yours: a .env with secrets, an environment of an editor. git leaves them out, too.
    tar -cf "$target/program.tar" --exclude=__pycache__ --exclude='*/.[!/]*' "$@"
    tar -xf "$target/program.tar" -C "$target" --no-same-owner
    rm "$target/program.tar"
    lost=$(links "$target" "$from" "$@")
    [ -z "$lost" ] || { echo "$lost" >&2; exit 1; }
    chmod -R a+rX,go-w "$target"  # a checkout made under a strict umask could not be read by the image's user
    # --version: a directory of yours may hide a file of the program.
    (cd "$target" && .venv/bin/python -m compileall -q "$@" && .venv/bin/python -B main.py --version >/dev/null &&
        .venv/bin/python -B -m utils.processing.user_code --made-from "$from")
}

"$@"
