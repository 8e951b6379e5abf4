#!/bin/bash
# What runs on a node of the job: ``node.sh head``, ``node.sh workers``; ``node.sh address`` says its address.
network=@{network}
address() {
    if [ -n "$network" ]; then
        ip -4 -o address show dev "$network" | awk '{ sub("/.*", "", $4); print $4; exit }'
    else
        hostname -I | awk '{ print $1 }'
    fi
}
if [ "$1" = address ]; then
    address
    exit
fi
[ -r "$RAY_AUTH_TOKEN_PATH" ] || { echo "$(hostname) does not see $RAY_AUTH_TOKEN_PATH"; exit 2; }
if [ "$1" = head ]; then
    role=(--head "--port=$HEAD_PORT" "--ray-client-server-port=$((HEAD_PORT + 1))" --include-dashboard=false)
else
    role=("--address=$HEAD_ADDRESS:$HEAD_PORT")
    for _ in $(seq 240); do
        (exec 3<>"/dev/tcp/$HEAD_ADDRESS/$HEAD_PORT") 2>/dev/null && break
        sleep 0.5
    done
fi
set -m # Ray's processes are one group: asked to end, its head would drain for up to 30 s
kill_ray() { [ -z "$ray" ] || kill -KILL -- "-$ray" 2>/dev/null; }
end() {
    kill_ray
    rm -rf "$RAY_TMPDIR"
    exit
}
trap end TERM
mkdir -p -m 700 "$RAY_TMPDIR"
for _ in 1 2 3; do # a busy node may be too slow for Ray's patience of 30 s
    @{ray} start --block --disable-usage-stats "${role[@]}" "--node-ip-address=$(address)" \
        "--num-cpus=${SLURM_CPUS_ON_NODE:-@{cpus}}" "--num-gpus=${SLURM_GPUS_ON_NODE:-0}" --object-store-memory=200000000 \
        "--object-manager-port=$((HEAD_PORT + 2))" "--node-manager-port=$((HEAD_PORT + 3))" \
        "--dashboard-agent-listen-port=$((HEAD_PORT + 4))" "--dashboard-agent-grpc-port=$((HEAD_PORT + 5))" \
        "--runtime-env-agent-port=$((HEAD_PORT + 6))" "--metrics-export-port=$((HEAD_PORT + 7))" &
    ray=$!
    wait "$ray"
    kill_ray
    [ "$1" = workers ] || break
done
end
