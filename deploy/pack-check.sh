#!/bin/sh
# Packs, and installs what was packed where there is no network: in a namespace without one, if this machine lets us.
# $PYTHON fetches the wheels, $CYCLONEDX is cyclonedx-py. With $PYTHON_IMAGE, a base image of $ENGINE (podman with its
# options) that has the Python of this machine, the image is built there, too, by a podman that has no image, and run.
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
target_python=$(command -v /usr/bin/python3 || command -v python3)
version=$("$target_python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# In a copy, so that no wheels are left behind.
mkdir "$work/source"
git ls-files --cached -z |
    xargs -0 sh -c 'for file; do [ ! -e "$file" ] && [ ! -L "$file" ] || printf "%s\0" "$file"; done' sh |
    tar --null -T - -cf - | tar -xf - -C "$work/source"
"$PYTHON" deploy/target.py "$version" < requirements.lock > "$work/target.lock"
"$PYTHON" -m pip download --quiet --only-binary=:all: --require-hashes --no-deps --python-version "$version" \
    -r "$work/target.lock" -d "$work/source/deploy/wheels"
(cd "$work/source" && git init -q && git add --all && sh deploy/pack.sh "$work/consumer.tar")

(cd "$work" && sha256sum --quiet --check consumer.tar.sha256 && tar -xf consumer.tar)
grep -q '"bomFormat": "CycloneDX"' "$work/consumer/sbom.cdx.json"
# No password and no environment of ours has come along.
test ! -e "$work/consumer/tree/.venv" && test ! -e "$work/consumer/tree/.git"

run='demo --results 3'
[ -e examples/demo.py ] || run=--version  # a copy may have deleted the examples
isolated="unshare --net"
$isolated true 2>/dev/null || { echo 'pack-check: no namespace without a network here; going on with one' >&2; isolated=; }
cat > "$work/offline.sh" <<'OFFLINE'
set -eu
ip link set lo up 2>/dev/null || true
sh consumer/install.sh "$PWD/app"
printf 'def process(message, consumer_name):\n    return message\n' > app/worker.py && : > app/defaults.py
cd app
timeout 60 .venv/bin/python main.py $RUN
OFFLINE
(cd "$work" && RUN=$run PYTHON=$target_python PIP_CONFIG_FILE=/dev/null $isolated sh -eu offline.sh)

if [ -n "${PYTHON_IMAGE:-}" ]; then
    there="${ENGINE:?of PYTHON_IMAGE} --root $work/there --runroot $work/there-run"
    (cd "$work" && env -u PYTHON_IMAGE ENGINE="$there" PIP_CONFIG_FILE=/dev/null \
        $isolated sh -eu consumer/install.sh --image localhost/packed)
    # shellcheck disable=SC2086
    $isolated $there image inspect --format '{{json .HealthCheck}}' localhost/packed | grep -q CMD
    # shellcheck disable=SC2086
    $isolated $there run --rm --network none --read-only --cap-drop ALL --ulimit nofile=20000:20000 \
        --ulimit nproc=4096:4096 localhost/packed $run
    echo 'pack-check: the image was built and run without a network'
fi

echo changed >> "$work/consumer/tree/main.py"
if (cd "$work" && sh consumer/install.sh "$PWD/again") 2>/dev/null; then
    echo 'pack-check: what was changed was installed' >&2
    exit 1
fi
test ! -e "$work/again"
echo 'pack-check: packed, installed without a network, and refused once changed'
