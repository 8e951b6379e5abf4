# A Ray node, until its raylet ends: because stop.sh ended it, or because the head is gone.
. "$(dirname "$0")/env.sh"
trap : TERM
mark node
folder=$(mktemp -d /tmp/cotuning-XXXXXXXX)
echo "$folder" >"$here/node.folder"
case $1 in
head) set -- --head --node-ip-address="$2" --port="$port" --dashboard-host=127.0.0.1 --dashboard-port="$dashboard_port" ;;
worker) set -- --node-ip-address="$2" --address="$3:$port" ;;
esac
"$python" -m ray.scripts.scripts start "$@" --temp-dir="$folder" --disable-usage-stats $resources
code=$?
for pid in $(members node); do
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = raylet ] && raylet=$pid
done
echo "$code" >"$here/node.started"
while [ -n "${raylet:-}" ] && kill -0 "$raylet" 2>/dev/null; do
    sleep 1
done
end node
tidy
