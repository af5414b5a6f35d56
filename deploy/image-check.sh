#!/bin/sh
# Proves the Dockerfile without Docker: its steps of deploy/image.sh, in a temporary directory for /app and without a
# network, then the program, under the image's user where we are root. $PYTHON fetches the wheels. Other RUN lines are
# named and not run: they are for an image, and would change this machine (apt-get install). Of your own files only the import is
# tried: the demo runs with those of the tests, for your process() may need what is not here.
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir "$work/app"

as_user=
[ "$(id -u)" != 0 ] || as_user='setpriv --reuid=10001 --regid=10001 --clear-groups'

# A Python that this user may run: one in root's home is out of its reach.
find_python() {
    for candidate in python3.13 python3.12 python3.11 python3 /usr/bin/python3; do
        # shellcheck disable=SC2086
        $as_user "$candidate" -c 'import sys, ensurepip; assert sys.version_info >= (3, 11); print(sys.executable)' \
            2>/dev/null && return
    done
    return 1
}
if ! python=$(find_python); then
    echo "image-check: no Python 3.11 that user 10001 may run; going on as $(id -un)" >&2
    as_user=
    python=$PYTHON
fi
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

echo "image-check: wheels for Python $version"
"$PYTHON" deploy/target.py "$version" < requirements.lock > "$work/target.lock"
"$PYTHON" -m pip download --quiet --only-binary=:all: --require-hashes --no-deps --python-version "$version" \
    -r "$work/target.lock" -d "$work/wheels"

# Each RUN on one line, without what a `\` has put on several.
sed -e :a -e '/\\$/N; s/\\\n/ /; ta' Dockerfile | grep -i '^[[:space:]]*RUN[[:space:]]' > "$work/runs" || :
sed -n "s#.*\(sh deploy/image\.sh [a-z]* \)/app.*#\1$work/app#p" "$work/runs" > "$work/steps.sh"
sed -n '\#sh deploy/image\.sh [a-z]* /app#!s/^/image-check: not tried here: /p' "$work/runs" >&2
PYTHON=$python WHEELS=$work/wheels sh -eux "$work/steps.sh"

echo "image-check: the program, ${as_user:-as $(id -un)}"
in_app() {
    # shellcheck disable=SC2086
    (cd "$work/app" && $as_user env -i PATH="$work/app/.venv/bin:/usr/bin:/bin" sh -eux)
}
in_app <<'YOURS'
python -m utils.processing.user_code
YOURS
printf 'def process(message, consumer_name):\n    return message\n' > "$work/app/worker.py"
: > "$work/app/defaults.py"
in_app <<'PROGRAM'
python main.py --help
python main.py --version
[ ! -e examples/demo.py ] || timeout 60 python main.py demo --results 3  # a copy may have deleted the examples
PROGRAM
[ -z "$as_user" ] || echo 'test ! -w . && test ! -w main.py' | in_app  # who is not root has made these files
