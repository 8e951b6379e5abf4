#!/bin/sh
# Debian packages that some tests use; without them those tests skip, and say so.
# (no argument) PostgreSQL, Chromium with its driver; "cluster": Slurm, munge, an SSH server, iproute2.
set -eu
missing=""
need() { command -v "$1" >/dev/null || missing="$missing $2"; }
if [ "${1:-}" = cluster ]; then
    PATH=$PATH:/usr/sbin
    need slurmctld slurm-wlm
    need munged munge
    need sshd openssh-server
    need ip iproute2
else
    [ -n "$(ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null)" ] || missing="$missing postgresql"
    need chromium chromium
    need chromedriver chromium-driver
fi
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null ||
        echo "not installed:$missing; the tests that use them are skipped" >&2
else
    echo "not installed:$missing; the tests that use them are skipped (apt-get install$missing)" >&2
fi
