#!/bin/sh
# The tests that need no service, on each Python from 3.11 on that this machine has beside the one of .venv: make pythons
# $1: the Python of .venv. Further arguments go to pytest. Environments are kept outside of the repository.
# $VERSIONS: some of them only. One that is not here is said, and is no failure. $QUICK: without what takes long, and
# would hardly find another Python.
set -eu

ours=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
shift
cache=${CONSUMER_SKELETON_CACHE:-$HOME/.cache/consumer-skeleton}
services='not real_kafka and not embedded_kafka and not mariadb and not postgresql and not chromium'
failed=
slow='simulation joining deploy copies docs integration test_image.py test_alerts.py test_main.py processing/test_user_code.py'
[ -z "${QUICK:-}" ] || for each in $slow; do
    set -- "$@" "--ignore=tests/$each"
done

# Each is run and not only looked up: a pyenv shim exists also where its version is not selected.
find_python() {
    for candidate in "python$1" "$HOME/.pyenv/versions/$1".*/bin/python; do
        "$candidate" -c 'import sys, ensurepip; print(sys.executable)' 2>/dev/null && return
    done
    return 1
}

for version in ${VERSIONS:-3.11 3.12 3.13 3.14}; do
    [ "$version" != "$ours" ] || continue
    if ! python=$(find_python "$version"); then
        echo "=== Python $version: not here"
        continue
    fi
    echo "=== $("$python" --version)"
    environment=$cache/python-$version
    if ! cmp -s requirements-dev.lock "$environment/lock"; then
        "$python" -m venv --clear "$environment"
        "$environment/bin/python" -m pip install --quiet --require-hashes -r requirements-dev.lock
        cp requirements-dev.lock "$environment/lock"
    fi
    "$environment/bin/python" -m pytest -q -n auto --dist loadgroup -p no:cacheprovider -m "$services" "$@" || failed=yes
done
[ -z "$failed" ]
