#!/bin/sh
# Find a Python that is new enough and hand over to scripts/setup.py. PYTHON= names one instead.
set -eu
cd "$(dirname "$0")/.."

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    if new_enough "$PYTHON"; then exec "$PYTHON" scripts/setup.py; fi
    found=$("$PYTHON" --version 2>&1 || true)
    echo "regard needs Python 3.11 or newer, got PYTHON=$PYTHON ($found); name a newer one." >&2
    exit 1
fi
for candidate in python3 python3.13 python3.12 python3.11; do
    if new_enough "$candidate"; then exec "$candidate" scripts/setup.py; fi
done
found=$(python3 --version 2>/dev/null || echo "no python3")
echo "regard needs Python 3.11 or newer, got $found; install one or name it: make setup PYTHON=/path/to/python3.11" >&2
exit 1
