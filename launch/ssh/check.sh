# Says in a line of JSON which address and which versions this host has.
. "$(dirname "$0")/env.sh"
command -v "$python" >/dev/null || {
    echo "there is no $python" >&2
    exit 1
}
command -v setsid >/dev/null || {
    echo "there is no setsid (package util-linux)" >&2
    exit 1
}
set -- ${SSH_CONNECTION:-- - 127.0.0.1}
exec "$python" -c '
import json, sys
try:
    import ray
    from cotuning_tune.cluster.preflight import versions
except ImportError as problem:
    sys.exit(f"{sys.executable} lacks cotuning_tune: {problem}")
print(json.dumps({"address": sys.argv[1], "versions": versions()}))
' "$3"
