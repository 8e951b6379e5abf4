# What the driver says; "logs.sh follow" continues until it has ended.
. "$(dirname "$0")/env.sh"
touch "$here/log"
if [ "${1:-}" = follow ] && lives driver; then
    exec tail -n +1 -f --pid="$session" "$here/log"
fi
exec cat "$here/log"
