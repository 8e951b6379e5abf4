#!/bin/sh
# Ask a database of known holes about every package of requirements.lock. audit.sh UV
# Exit codes: 0 none is known, 1 some are (a table), 3 it could not be asked (one line).
set -u
said=$(mktemp) || exit 3
trap 'rm -f "$said"' EXIT
"${1:?the program uv}" tool run --from 'pip-audit==2.9.0' pip-audit --disable-pip --no-deps --progress-spinner off \
    -r requirements.lock >"$said" 2>&1
code=$?
if [ $code -ne 0 ] && ! grep -q '^Found [0-9]* known' "$said"; then
    echo "audit: the database of known holes cannot be asked: $(grep -v '^ *$' "$said" | tail -n 1 | cut -c1-200)" >&2
    exit 3
fi
unasked=$(grep -c 'could not be audited' "$said")
if [ "$unasked" -gt 0 ]; then
    echo "audit: the database of known holes could not be asked about $unasked of $(grep -c '^[^#].*==' requirements.lock) packages" >&2
    [ $code -ne 0 ] || exit 3
fi
cat "$said"
exit $code
