"""A SLURM of two nodes with two GPUs each, all on this machine: real daemons on loopback, GPUs that compute nothing.

    python tests/slurm/lab.py up /tmp/lab      # then: export SLURM_CONF=/tmp/lab/slurm.conf
    python tests/slurm/lab.py down /tmp/lab

Needs root and Debian's packages slurmctld, slurmd, slurm-client and munge; touches nothing outside of its folder. GPUs
are character devices that no process opens: jobs get `CUDA_VISIBLE_DEVICES`, and wait for one another as on a cluster.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
NODES = ("n1", "n2")

# Timeouts are short, so that a lost node is noticed in seconds; `cred_expire` is how long a requeued job is held.
CONFIGURATION = """\
ClusterName=lab
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
KillWait=3
MinJobAge=3600
MailProg=/bin/true
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
JobCompType=jobcomp/none
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=16000 Gres=gpu:2
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=16000 Gres=gpu:2
PartitionName=lab Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""

GPUS = """\
AutoDetect=off
NodeName=n1 Name=gpu File={folder}/nvidia[0-1]
NodeName=n2 Name=gpu File={folder}/nvidia[2-3]
"""


class Lab:
    """A SLURM in a folder.

    Args:
        folder: with a short path, for it holds a socket.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.configuration = folder / "slurm.conf"
        # From the start, so that whatever fails, nothing here speaks to another SLURM of this machine.
        os.environ["SLURM_CONF"] = str(self.configuration)

    def start(self) -> None:
        """Write the configuration and start the daemons; returns when both nodes are idle."""
        for name in ("state", "spool-n1", "spool-n2"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)  # munge insists
        for number in range(4):
            _make_device(self.folder / f"nvidia{number}")
        self.configuration.write_text(CONFIGURATION.format(folder=self.folder, ports=_free_ports(3)))
        (self.folder / "gres.conf").write_text(GPUS.format(folder=self.folder))
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = {"key": "key", "socket": "socket", "pid": "pid", "log": "log", "seed": "seed"}
        run("munged", *(f"--{name}-file={self.folder}/munge.{end}" for name, end in files.items() if name != "socket"),
            f"--socket={self.folder}/munge.socket")  # fmt: skip
        run("slurmctld", "-c")
        for node in NODES:
            self.start_node(node)
        self.wait_until_idle()

    def start_node(self, node: str) -> None:
        run("slurmd", "-N", node)

    def kill_node(self, node: str) -> None:
        """End a node's daemon as a crash does; its tasks go on, and SLURM will start them elsewhere."""
        os.kill(int((self.folder / f"slurmd-{node}.pid").read_text()), signal.SIGKILL)

    def set_node(self, node: str, state: str) -> None:
        run("scontrol", "update", f"NodeName={node}", f"State={state}", "Reason=test")

    def resume_node(self, node: str) -> None:
        """Take a node back into service; SLURM does so by itself, too, when the daemon of a lost node reports."""

        def is_back() -> bool:
            subprocess.run(["scontrol", "update", f"NodeName={node}", "State=resume"], capture_output=True)
            return run("sinfo", "-h", "-n", node, "-p", "lab", "-o", "%T").strip() in ("idle", "mixed", "allocated")

        wait_for(is_back, f"{node} to be back")

    def wait_until_idle(self) -> None:
        wait_for(lambda: run("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * 4, "both nodes to be idle")

    def stop(self) -> None:
        """Cancel what runs and end the daemons by their ids."""
        subprocess.run(["scancel", "--user=root"], capture_output=True)
        for name in ("slurmd-n1", "slurmd-n2", "slurmctld", "munge"):
            path = self.folder / f"{name}.pid"
            if path.is_file() and path.read_text().strip():
                _end(int(path.read_text()))


def run(*command: str) -> str:
    """What a program prints; an error with what it said if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def wait_for(condition: Callable[[], object], what: str, seconds: float = 90) -> None:
    """Return when a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}\n{run('squeue')}\n{run('sinfo', '-N', '-l')}")
        time.sleep(0.1)


def why_not() -> str | None:
    """Why no SLURM can be started here."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed: apt-get install slurmctld slurmd slurm-client munge"
    if os.getuid():
        return "a SLURM of our own needs root"
    try:
        with tempfile.TemporaryDirectory() as folder:
            _make_device(Path(folder, "null"))
    except OSError as error:  # as in many containers
        return f"no device files can be made here, which stand for GPUs: {error}"
    return None


def _make_device(path: Path) -> None:
    os.mknod(path, 0o020666, os.makedev(1, 3))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def _end(process: int) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not _is_alive(process):
            return
        os.kill(process, number)
        for _ in range(50):
            if not _is_alive(process):
                return
            time.sleep(0.1)


def _is_alive(process: int) -> bool:
    """Whether a process runs; a process that has not been waited for answers signals, too."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    action, place = sys.argv[1:]
    lab = Lab(Path(place).absolute())
    if action == "up":
        lab.start()
        print(f"export SLURM_CONF={lab.configuration}")
    else:
        lab.stop()
