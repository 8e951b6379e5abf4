#!/bin/sh
# A virtual environment with everything pinned in requirements.lock and this package, editable.
set -eu
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed; PYTHON=/path/to/python3.11 make ... names another one" >&2
    exit 2
}
# Debian keeps venv in a package of its own.
if ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        apt-get install -y -qq python3-venv
    else
        echo "the module venv is missing: install your system's python3-venv package" >&2
        exit 2
    fi
fi
echo "Setting up $VENV: $(grep -c '==' requirements.lock) packages, some 6 GB with torch. Once: half a minute to ten." >&2
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
"$VENV/bin/python" -m pip install -q --disable-pip-version-check "uv==$(sed -n 's/^# uv==//p' requirements.lock)"
"$VENV/bin/uv" pip install -q --python "$VENV/bin/python" -r requirements.lock
"$VENV/bin/uv" pip install -q --python "$VENV/bin/python" --no-deps -e .
