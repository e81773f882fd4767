"""Slurm with two nodes on this machine: slurmctld, two slurmd, munge and sshd, all in one folder and on ports of their own.

The packages come by `make engine`. Of the machine itself four things are changed, and put back at the end: two names in
/etc/hosts, the folder that sshd wants in /run, uv's cache of a node, and a user. The user is another name of root, with a home of its own: so it
may link files from uv's cache, and a training's environment takes seconds instead of copies of gigabytes.
"""

import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from servers import free_port, running

from stage.patience import deadline

NODES = ("stage-node-1", "stage-node-2")
USER = "stage-slurm"
CACHE = Path("/tmp/uv_cache_0")  # of uv on a node, by SkyPilot: sky/utils/command_runner.py
FREEZER = Path(
    "/sys/fs/cgroup/freezer"
)  # without it Slurm tracks by parents, and loses who has none any more
HOSTS = Path("/etc/hosts")
MARK = "# stage of slurm"
PROGRAMS = ("slurmctld", "slurmd", "munged", "sshd", "scontrol", "curl", "rsync", "uv")

# No accounting, which needs a database. Processes are tracked by cgroup, as on most clusters: what a job's own process
# leaves behind is killed with it. KillWait is the notice of a job that is ended; a node that has restarted is taken back at
# once, and has the CPUs and the memory that are written here.
CONF = """\
ClusterName=stage
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType={tracking}
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=20
MpiDefault=none
{nodes}
PartitionName=main Nodes={names} Default=YES MaxTime=04:00:00 State=UP
PartitionName=short Nodes={names} MaxTime=00:02:00 State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=8000"
SSHD = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/authorized_keys
AllowUsers {user}
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
SetEnv {environment}
"""
# The cluster has no internet, as many have none. SkyPilot installs uv there by its address; all else is by packages.
CURL = """\
#!/bin/sh
case "$*" in
    *astral.sh/uv*) echo 'mkdir -p "$UV_INSTALL_DIR" && cp {folder}/uv "$UV_INSTALL_DIR/uv"' ;;
    *) exec {curl} "$@" ;;
esac
"""
# SkyPilot asks for Python 3.10 by that number, and is content with what Debian has.
UV = """\
#!/bin/sh
for word; do
    shift
    if [ "$word" = 3.10 ]; then word=/usr/bin/python3; fi
    set -- "$@" "$word"
done
exec {uv} "$@"
"""


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up.

    Args:
        folder: of all its files; its user's home is in it.
        port: of sshd.
    """

    folder: Path
    port: int

    @property
    def home(self) -> Path:
        """The home of the cluster's user, seen by both nodes: the shared file system."""
        return self.folder / "home"

    @property
    def tmp(self) -> Path:
        """What is a disk of each node's own to whatever runs there."""
        return self.folder / "tmp"

    @property
    def key(self) -> Path:
        """What its user logs in with."""
        return self.folder / "key"

    def call(self, *words: str) -> str:
        """What a program of Slurm prints."""
        env = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}
        done = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}{done.stdout}"
        return done.stdout

    def jobs(self) -> list[str]:
        """The names of all jobs that wait or run."""
        return self.call("squeue", "--noheader", "--format=%j").split()

    def cancel(self, name: str) -> None:
        """End a job from outside, as a preemption or an administrator does."""
        self.call("scancel", f"--name={name}")

    def limit(self, name: str) -> str:
        """The time limit of a job, as Slurm writes it."""
        return self.call("squeue", "--noheader", "--format=%l", f"--name={name}").strip()

    def end_soon(self, name: str) -> None:
        """Let a job end within four minutes, as an administrator may; one that wants three of them to save begins by then."""
        shown = self.call("squeue", "--noheader", "--format=%i %M", f"--name={name}").split()
        number, *_, minutes, _ = re.split(r"[ :-]", " ".join(shown))  # as in 12 3:45
        self.call("scontrol", "update", f"JobId={number}", f"TimeLimit={int(minutes) + 4}")


def require() -> None:
    """The packages are there, and this is root; else `make engine` is what is missing."""
    missing = [program for program in PROGRAMS if not shutil.which(program, path=_path())]
    assert not missing, f"{', '.join(missing)} missing: run `make engine`"
    assert os.geteuid() == 0, "a cluster is started as root"


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Runs a cluster in a folder that any user may enter; all of it ends with the block."""
    require()
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(_end_all_in, folder)
        stack.enter_context(_cache())
        stack.enter_context(_names())
        stack.enter_context(_user(folder / "home"))
        port, login = free_port(), free_port()
        _configure(folder, port, login)
        env = {"SLURM_CONF": str(folder / "slurm.conf")}
        stack.enter_context(_munge(folder))
        stack.enter_context(running([_which("slurmctld"), "-D", "-c"], port, folder / "slurmctld.log", **env))
        for name, own in zip(NODES, _ports(folder), strict=True):
            command = [_which("slurmd"), "-D", "-N", name]
            stack.enter_context(running(command, own, folder / f"{name}.log", **env))
        stack.enter_context(_sshd(folder, login))
        here = Cluster(folder, login)
        idle = len(NODES)
        shown = ("sinfo", "--noheader", "--Node", "--partition=main", "--states=idle")
        wait_until(lambda: here.call(*shown).count("\n") == idle, "the nodes are not idle")
        yield here
        assert here.jobs() == [], "a job is still there"


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Waits until a condition holds; `what` is said where it never does."""
    until = deadline(seconds)
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.1)


def _path() -> str:
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])


def _which(program: str) -> str:
    return shutil.which(program, path=_path()) or program


@contextmanager
def _names() -> Iterator[None]:
    """The nodes' names are known here for as long as the block lasts."""
    before = HOSTS.read_text() if HOSTS.exists() else ""
    lines = "".join(f"127.0.0.1 {name} {MARK}\n" for name in NODES)
    _write_over(HOSTS, _without_mark(before) + lines)
    try:
        yield
    finally:
        _write_over(HOSTS, _without_mark(HOSTS.read_text()))


def _write_over(path: Path, text: str) -> None:
    """Writes a file that others read at any moment; in a container it may be a mount, and so cannot be replaced."""
    with path.open("r+" if path.exists() else "w") as file:
        file.write(text)
        file.truncate()


@contextmanager
def _cache() -> Iterator[None]:
    """A node has been used before: what uv installs is there, and not unpacked once for each of the jobs that begin together."""
    mine = not CACHE.exists()
    if mine:
        CACHE.unlink(missing_ok=True)
        CACHE.symlink_to(_uv_cache())
    try:
        yield
    finally:
        if mine:
            CACHE.unlink(missing_ok=True)


def _uv_cache() -> str:
    return subprocess.check_output([_which("uv"), "cache", "dir"], text=True).strip()


def _without_mark(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if MARK not in line)


@contextmanager
def _user(home: Path) -> Iterator[None]:
    home.mkdir()
    with suppress(KeyError):
        pwd.getpwnam(USER)
        subprocess.run(
            ["userdel", "--force", USER], check=True, capture_output=True
        )  # of one that was killed
    # A password of `*` fits nothing, yet the account is not locked, which sshd would refuse.
    command = [
        "useradd",
        "--non-unique",
        "--uid",
        "0",
        "--gid",
        "0",
        "--home-dir",
        str(home),
        "--no-create-home",
    ]
    subprocess.run(
        [*command, "--shell", "/bin/bash", "--password", "*", USER], check=True, capture_output=True
    )
    try:
        yield
    finally:
        subprocess.run(["userdel", "--force", USER], check=False, capture_output=True)


def _configure(folder: Path, port: int, login: int) -> None:
    host = socket.gethostname().partition(".")[0]
    nodes = [NODE.format(name=name, host=host, port=free_port()) for name in NODES]
    tracking = "proctrack/cgroup" if FREEZER.exists() else "proctrack/linuxproc"
    text = CONF.format(
        tracking=tracking, host=host, port=port, folder=folder, nodes="\n".join(nodes), names=",".join(NODES)
    )
    (folder / "slurm.conf").write_text(text)
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    for name in ("state", "bin", "tmp", *(f"spool-{name}" for name in NODES)):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    for name in ("key", "host_key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    shutil.copyfile(folder / "key.pub", folder / "authorized_keys")
    _programs(folder / "bin")
    environment = {
        "BASH_ENV": str(folder / "env.sh"),  # what a login shell takes from /etc/profile, it gives back
        "SLURM_CONF": str(folder / "slurm.conf"),
        "TMPDIR": str(folder / "tmp"),
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_CACHE_DIR": _uv_cache(),
        **{name: os.environ[name] for name in ("SSL_CERT_FILE",) if name in os.environ},
    }
    (folder / "env.sh").write_text(f'export PATH="{folder}/bin:$PATH"\n')
    words = " ".join(f'"{name}={value}"' for name, value in environment.items())
    (folder / "sshd_config").write_text(SSHD.format(port=login, folder=folder, user=USER, environment=words))


def _programs(folder: Path) -> None:
    """What the cluster has on its PATH: uv, and a curl that knows where uv is."""
    texts = {
        "uv": UV.format(uv=Path(_which("uv")).resolve()),
        "curl": CURL.format(folder=folder, curl=_which("curl")),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


def _ports(folder: Path) -> list[int]:
    lines = (folder / "slurm.conf").read_text().splitlines()
    return [int(line.partition(" Port=")[2].split()[0]) for line in lines if line.startswith("NodeName=")]


@contextmanager
def _munge(folder: Path) -> Iterator[None]:
    command = [_which("munged"), "--foreground", f"--key-file={folder}/munge.key"]
    command += [f"--{what}={folder}/munge.{what}" for what in ("socket",)]
    command += [f"--{what}-file={folder}/munge.{what}" for what in ("pid", "log", "seed")]
    with (folder / "munged.log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_until((folder / "munge.socket").exists, "munged has made no socket")
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _sshd(folder: Path, port: int) -> Iterator[None]:
    separation = Path("/run/sshd")  # which sshd does not start without
    mine = not separation.exists()
    separation.mkdir(exist_ok=True)
    try:
        command = [_which("sshd"), "-D", "-e", "-f", str(folder / "sshd_config")]
        with running(command, port, folder / "sshd.log"):
            yield
    finally:
        if mine:
            with suppress(OSError):
                separation.rmdir()


def _end_all_in(folder: Path) -> None:
    """End what a job has left: every process that knows of this folder, by its words or its environment, or has logged in."""
    mine = f"{folder}/".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            words, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            if mine in words + environment or words.startswith(f"sshd: {USER}@".encode()):
                os.kill(int(entry.name), signal.SIGKILL)
