#!/bin/sh
# On the head: start the run or continue it, tell how it stands, show what it says, end it cleanly.
set -eu
cd ~/cotuning-tune
umask 077
running() { [ -f pid ] && kill -0 "$(cat pid)" 2>/dev/null; }
case ${1:?start, find, state, log, follow or stop} in
start) # start ATTEMPT: nothing where that attempt has been started before
    mkdir -p attempts
    mkdir "attempts/$2" 2>/dev/null || { [ -d "attempts/$2" ]; echo "state: started"; exit 0; }
    running && { echo "state: running"; exit 0; }
    . ./environment
    [ -f optuna_storage.url ] && { COTUNING_TUNE_OPTUNA_STORAGE=$(cat optuna_storage.url); export COTUNING_TUNE_OPTUNA_STORAGE; }
    rm -f code stopping
    nohup setsid sh driver.sh work >> log 2>&1 < /dev/null &
    echo "state: running"
    ;;
work)
    trap '' HUP
    @{entry} &
    echo $! > pid
    code=0; wait $! || code=$?
    echo "$code" > code
    rm -f pid
    ~/venv/bin/python -m cotuning_tune.launch.keep_log log @{kept_log} || true
    [ @{down} = no ] || [ -f stopping ] || @{take_down}
    ;;
find)
    if [ -d "attempts/$2" ]; then echo "state: started"; else echo "state: none"; fi
    ;;
state)
    if running; then echo "state: running"; else echo "state: ended $(cat code 2>/dev/null || echo killed)"; fi
    ;;
log) cat log ;;
follow)
    if running; then exec tail -n +1 -f --pid="$(cat pid)" log; fi
    cat log
    ;;
stop)
    running || { echo "state: ended"; exit 0; }
    touch stopping
    kill -TERM "$(cat pid)"
    for _ in $(seq 240); do running || break; sleep 0.5; done
    running && { echo "state: running"; exit 0; }
    echo "state: ended"
    ;;
esac
