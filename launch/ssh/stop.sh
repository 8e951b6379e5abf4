# stop.sh driver SECONDS: ends the driver cleanly, says how.   stop.sh node: ends what this launch has running here.
. "$(dirname "$0")/env.sh"
if [ "$1" = driver ]; then
    lives driver || {
        echo none
        exit
    }
    kill -TERM "$(cat "$here/driver.pid")" 2>/dev/null
    for tenth in $(seq "${2}0"); do
        lives driver || {
            echo ended
            exit
        }
        sleep 0.1
    done
    echo killed
    kill -KILL $(members driver) 2>/dev/null
    exit
fi
end node
tidy
