"""A real Slurm on the hosts of a bed: a controller, three nodes with two cores and two GPUs of no substance each."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hosts.bed import Host, bed

TOOLS = ("slurmctld", "slurmd", "sbatch", "munged", "runuser")
CPUS, GPUS = 2, 2
KEY = Path("/etc/munge/munge.key")
CONF = """\
ClusterName=bed
SlurmctldHost=n0
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ReturnToService=2
SlurmdTimeout=60
InactiveLimit=0
KillWait=30
SchedulerParameters=sched_interval=2,bf_interval=3
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=n[0-2] CPUs={cpus} RealMemory=4000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=low Nodes=n[0-2] Default=YES MaxTime=1:00:00 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=high Nodes=n[0-2] MaxTime=1:00:00 State=UP PriorityTier=10 PreemptMode=OFF
"""
MUNGED = (
    "mkdir -p /run/munge && chown munge:munge /run/munge && exec runuser -u munge -- /usr/sbin/munged"
    " --pid-file=/run/munge/pid --log-file=/run/munge/log --seed-file=/run/munge/seed"
)
DAEMONS = ("munged", "slurmctld", "slurmd", "slurmscriptd")


@dataclass(frozen=True)
class Slurm:
    """Hosts with Slurm on them; commands are given on the first."""

    hosts: list[Host]
    env: dict[str, str]

    def run(self, *command: object, check: bool = True, timeout: float = 120) -> str:
        """What a command prints on the first host."""
        return self.hosts[0].run(command, env=self.env, check=check, timeout=timeout).stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of a job."""
        words = self.run("scontrol", "show", "job", "-o", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def idle(self) -> bool:
        """Whether every node is free."""
        return self.run("sinfo", "-h", "-o", "%T %D") == f"idle {len(self.hosts)}"

    def left(self) -> list[str]:
        """What runs on the hosts besides Slurm itself."""
        every = [line for host in self.hosts for line in host.processes().values()]
        return [line for line in every if not Path(line.lstrip(": ").split()[0]).name.startswith(DAEMONS)]


@contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    """Slurm on three hosts; skips where it is not installed. ``folder`` keeps its files and logs."""
    os.environ["PATH"] = f"{os.environ['PATH']}:/usr/sbin"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"NOT TESTED on Slurm: {', '.join(missing)} not found (Debian: slurm-wlm munge)")
    (folder / "spool").mkdir()
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder, cpus=CPUS, gpus=GPUS))
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-{GPUS - 1}] Flags=nvidia_gpu_env\n")
    for number in range(GPUS):
        os.mknod(folder / f"gpu{number}", 0o020666, os.makedev(1, 3))
    env = {"SLURM_CONF": str(conf)}
    with bed(3) as hosts:
        for host in hosts:
            host.run(["bash", "-c", MUNGED])
        made = Slurm(hosts, env)
        made.run("slurmctld")
        for host in hosts:
            host.run(["slurmd", "-N", host.name], env=env)
        deadline = time.monotonic() + 60
        while not made.idle():
            assert time.monotonic() < deadline, (folder / "slurmctld.log").read_text()[-2000:]
            time.sleep(0.2)
        yield made
