# The driver of the run, on the head: driver.sh ADDRESS. Writes its exit code down; the head's node ends with it.
. "$(dirname "$0")/env.sh"
trap '' HUP
trap : TERM
rm -f "$here/driver.exit"
mark driver
[ ! -s "$here/optuna_storage.url" ] || export COTUNING_TUNE_OPTUNA_STORAGE="$(cat "$here/optuna_storage.url")"
sh -c 'echo $$ >"$1"; shift; exec "$@"' driver "$here/driver.pid" \
    "$python" -m cotuning_tune.cli.entry "$here/experiment/$experiment" --storage "$storage" \
    --name "$run" --address "$1:$port" --nodes "$nodes" --require-token $on_end
echo $? >"$here/driver.exit"
end node
tidy
