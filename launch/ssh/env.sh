# What every process of a launch has on this host, and how they are found; the other scripts read it first.
umask 077
here=$(cd "$(dirname "$0")" && pwd)
. "$here/settings.sh"
unset RAY_ADDRESS RAY_AUTH_TOKEN
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$here/token" RAY_USAGE_STATS_ENABLED=0 PYTHONUNBUFFERED=1
# A host that is cut off is noticed after about 15 s; one whose connection to the head is broken gives up after 20 s.
export RAY_health_check_period_ms=2000 RAY_health_check_timeout_ms=2000 RAY_health_check_failure_threshold=4
export RAY_gcs_rpc_server_reconnect_timeout_s=20

# The state, parent, group, session, ..., start (20th) of a process, '' where there is none.
fields() {
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 0
    echo "${line##*) }"
}

# Write down which session this is: its leader, when that started, and since which boot.
mark() {
    set -- "$1" $(fields $$)
    echo "$$ ${21} $(cat /proc/sys/kernel/random/boot_id)" >"$here/$1.session"
}

# Whether the number of a session still means what it meant.
same() {
    session=0
    [ -s "$here/$1.session" ] && read -r session start boot <"$here/$1.session"
    [ "$session" != 0 ] && [ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ] || return 1
    set -- $(fields "$session")
    [ $# = 0 ] || [ "${20}" = "$start" ]
}

# Whether a session's leader lives.
lives() {
    same "$1" || return 1
    set -- $(fields "$session")
    [ $# != 0 ] && [ "$1" != Z ]
}

# The living processes of a session, except this shell and its children.
members() {
    same "$1" || return 0
    for folder in /proc/[0-9]*; do
        { read -r line <"$folder/stat"; } 2>/dev/null || continue
        set -- ${line##*) }
        [ "$4" = "$session" ] && [ "$1" != Z ] || continue
        [ "$2" = $$ ] || [ "${folder#/proc/}" = $$ ] || echo "${folder#/proc/}"
    done
}

# End every process of a session: asked first, killed after 5 s.
end() {
    kill -TERM $(members "$1") 2>/dev/null
    for tenth in $(seq 100); do
        left=$(members "$1")
        [ -n "$left" ] || break
        [ "$tenth" -lt 50 ] || kill -KILL $left 2>/dev/null
        sleep 0.1
    done
}

# Remove what a node leaves behind, its token too; Ray's logs are kept in ray-logs.
tidy() {
    rm -f "$here/token" "$here/optuna_storage.url" # another start sends them again
    [ -s "$here/node.folder" ] || return 0
    folder=$(cat "$here/node.folder")
    rm -rf "$here/ray-logs" "$here/node.folder"
    mv "$folder"/session_2*/logs "$here/ray-logs" 2>/dev/null
    rm -rf "$folder"
}
