# Starts what keeps running after ssh has left, and waits until it is up.
#   start.sh head ADDRESS | start.sh worker ADDRESS HEAD | start.sh driver ADDRESS
. "$(dirname "$0")/env.sh"
if [ "$1" = driver ]; then # once for each attempt: whoever makes its claim starts the driver
    mkdir -p "$here/attempts" && echo "$2" >"$here/attempts/$$" || exit
    ln "$here/attempts/$$" "$here/attempts/$attempt" 2>/dev/null
    code=$?
    rm -f "$here/attempts/$$"
    [ "$code" = 0 ] || {
        [ -e "$here/attempts/$attempt" ]
        exit
    }
    rm -f "$here/driver.session"
    setsid sh "$here/driver.sh" "$2" >>"$here/log" 2>&1 </dev/null &
    until [ -s "$here/driver.session" ]; do
        sleep 0.1
    done
    exit
fi
rm -f "$here/node.started"
setsid sh "$here/node.sh" "$@" >"$here/node.log" 2>&1 </dev/null &
for tenth in $(seq 900); do
    [ -s "$here/node.started" ] && break
    sleep 0.1
done
[ "$(cat "$here/node.started" 2>/dev/null)" = 0 ] && exit 0
grep -E 'Error|rror:|address' "$here/node.log" | tail -n 1 | grep . >&2 || echo "Ray does not start" >&2
exit 1
