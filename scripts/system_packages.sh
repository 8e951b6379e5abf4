#!/bin/sh
# Debian packages that some tests use: PostgreSQL, Chromium with its driver. Without them those tests skip, and say so.
set -eu
missing=""
[ -n "$(ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null)" ] || missing="$missing postgresql"
command -v chromium >/dev/null || missing="$missing chromium"
command -v chromedriver >/dev/null || missing="$missing chromium-driver"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null ||
        echo "not installed:$missing; the tests that use them are skipped" >&2
else
    echo "not installed:$missing; the tests that use them are skipped (apt-get install$missing)" >&2
fi
