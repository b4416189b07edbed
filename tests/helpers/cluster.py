"""A Slurm cluster whose one node is this machine, with 2 pretended GPUs.

It needs root, and Debian's slurm-wlm and munge.
"""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=1
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=64000 Gres=gpu:2
PartitionName=main Nodes=ALL Default=YES
"""  # A job that is queued again waits for cred_expire. config_overrides allows more CPUs and memory than there are.


def free_ports(count):
    """Return so many ports on which nothing listens."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def wait_until(condition, what, seconds=180):
    """Call `condition` until it returns something true, and return that. In an error `what()` names the condition."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what()}"
        time.sleep(0.25)
    return result


@contextlib.contextmanager
def cluster():
    """Run munged, slurmctld and slurmd, and yield the environment in which Slurm's commands find them."""
    needs = "these tests need root, and: apt-get install slurm-wlm munge"
    assert shutil.which("slurmctld") and os.geteuid() == 0, needs
    folder = pathlib.Path(tempfile.mkdtemp(prefix="cluster"))
    folder.chmod(0o755)  # for the user munge
    for name in "munge", "state", "spool":
        (folder / name).mkdir(0o755)
    (folder / "munge/key").write_bytes(os.urandom(128))
    (folder / "munge/key").chmod(0o600)
    for path in folder / "munge", folder / "munge/key":
        shutil.chown(path, "munge", "munge")
    host = socket.gethostname().split(".")[0]
    (folder / "slurm.conf").write_text(CONF.format(host=host, ports=free_ports(2), folder=folder))
    gpus = [folder / f"gpu{i}" for i in range(2)]
    (folder / "gres.conf").write_text("".join(f"Name=gpu File={gpu}\n" for gpu in gpus))
    for gpu in gpus:
        gpu.touch()
    environ = os.environ | dict(SLURM_CONF=str(folder / "slurm.conf"))
    munge = [f"--{option}={folder}/munge/{name}" for option, name in
             dict(socket="socket", **{"key-file": "key", "pid-file": "pid", "seed-file": "seed"}).items()]
    says = lambda *command: subprocess.run(command, env=environ, capture_output=True, text=True).stdout.strip()
    log = lambda: (folder / "log").read_text()[-2000:]
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        output = stack.enter_context(open(folder / "log", "w"))

        def start(*command, **of_user):
            daemon = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                      **of_user)
            stack.callback(daemon.wait)
            stack.callback(daemon.terminate)

        start("munged", "--foreground", *munge, user="munge", group="munge", extra_groups=[])
        wait_until((folder / "munge/socket").exists, log)
        start("slurmctld", "-D")
        start("slurmd", "-D")
        wait_until(lambda: says("sinfo", "--noheader", "--format=%t") == "idle", log)
        try:
            yield environ
        finally:
            says("scancel", "--user=root")
            wait_until(lambda: not says("squeue", "--noheader"), log)
