# What the profile and the command line say of this launch.
module load cuda
export COTUNING_TUNE_CACHE='/scratch/it'"'"'s mine'
python="$HOME"/venv/bin/python
port=6385
dashboard_port=8265
resources="--num-cpus=16 --num-gpus=4"
experiment=tiny.toml
storage=/shared/runs
run=tiny
attempt=ct-new-1
nodes=2
on_end=
