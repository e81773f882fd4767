"""Stands for the program `sky` 0.14.1: what it prints and how it ends, as recorded on a Slurm cluster (tests/loop/test_slurm.py).

It keeps its clusters in a file beside itself. What a test wants of it is in the same file, under `faults`.
"""

import json
import os
import sys
from pathlib import Path

STATE = Path(__file__).with_name("state.json")
ENABLED = {"default": {"Slurm": ["compute"], "AWS": ["compute", "storage"]}}
INFO = """\
SkyPilot client version: {version}, commit: 7e595970a806dcc9eefadf459f399edf1733e962
Using SkyPilot API server and dashboard: {server}
├── Status: ApiServerStatus.HEALTHY, commit: 7e595970a806dcc9eefadf459f399edf1733e962, version: 0.14.1
└── Endpoint set to default local API server.
"""
TABLE = """\
YAML to run: {path}
Running on cluster: sky-5072-root
Considered resources (1 node):
-------------------------------------------------------------------------
 INFRA           INSTANCE   vCPUs   Mem(GB)   GPUS   COST ($)   CHOSEN   
-------------------------------------------------------------------------
 {infra:<16}{machine:<11}1       1         -      {usd:<11}\x1b[32m   ✔\x1b[0m     
-------------------------------------------------------------------------
"""


def main() -> None:
    """Does what the words say."""
    state = json.loads(STATE.read_text())
    words = sys.argv[1:]
    state["calls"].append(words)
    try:
        code = do(state, words)
    finally:
        STATE.write_text(json.dumps(state))
    sys.exit(code)


def fail(kind: str, said: str) -> int:
    """An exception of SkyPilot's, as it ends with one."""
    print(
        f"\x1b[0m\x1b[31msky.exceptions.{kind}: {said}\x1b[0m".replace("\x1b[31m", "").replace("\x1b[0m", ""),
        file=sys.stderr,
    )
    return 1


def do(state: dict, words: list[str]) -> int:
    """One command; gives its exit status."""
    faults, clusters = state["faults"], state["clusters"]
    if words[0] in faults:
        return fail(*faults[words[0]])
    if words[0] == "check":
        print(json.dumps(ENABLED, indent=2))
    elif words[0] == "api":
        print(INFO.format(version=state["version"], server=state["server"]), end="")
    elif words[0] == "status":
        shown = [each for name, each in clusters.items() if name in words or not set(words) & set(clusters)]
        print("\n" + json.dumps(shown, indent=2))
    elif words[0] == "queue":
        return queue(clusters, words[1])
    elif words[0] == "launch":
        return launch(state, words)
    elif words[0] == "down":
        down(state, words[2])
    elif words[0] == "cancel":
        if words[2] not in clusters:
            return fail("ClusterDoesNotExist", f"Cluster '{words[2]}' does not exist.")
        clusters[words[2]]["jobs"][-1] |= {"status": "CANCELLED", "end_at": 1795916708.3}
    elif words[0] == "logs":
        print("\x1b[33mTailing logs of job 1 on cluster 'demo-a'...\x1b[0m")
        print("\x1b[36m(a, pid=6237)\x1b[0m epoch 1/3\n\x1b[36m(a, pid=6237)\x1b[0m epoch 2/3")
        print("\x1b[0m\x1b[32m✓ Job finished (status: FAILED).\x1b[0m\x1b[0m")
        return 100
    return 0


def down(state: dict, name: str) -> None:
    """Whatever becomes of it, the exit status is 0 (sky/client/cli/command.py, _down_or_stop_clusters)."""
    if name not in state["clusters"]:
        print("Cluster(s) not found (tip: see `sky status`).")
    elif state.get("undead"):
        print(f"\n\x1b[31mTerminating cluster {name}...failed. \x1b[0m\nReason: RuntimeError: no answer.")
        print("Cluster(s) failed. See details above.")
    else:
        del state["clusters"][name]
        print(f"\n\x1b[32mTerminating cluster {name}...done.\x1b[0m")


def queue(clusters: dict, name: str) -> int:
    """A queue that cannot be had is told as an exception, then as an empty one, and no error."""
    print(f"Fetching job queue for: {name}")
    if name not in clusters:
        print(f"Failed to get the job queue for cluster '{name}'.")
        print(f"  sky.exceptions.ClusterDoesNotExist: Cluster '{name}' does not exist.\n{{}}")
    else:
        print(json.dumps({name: clusters[name]["jobs"]}, indent=2))
    return 0


def launch(state: dict, words: list[str]) -> int:
    """The table, and unless it is a dry run the cluster with its job."""
    task = json.loads(Path(words[-1]).read_text())
    wanted = task["resources"]
    infra = wanted["infra"]
    usd = state["prices"][1 if wanted.get("use_spot") else 0]
    print(TABLE.format(path=words[-1], infra=infra, machine=state["machine"], usd=f"{usd:.2f}"))
    if "--dryrun" in words:
        return 0
    name = words[words.index("--cluster") + 1]
    if state.get("unprepared") and not state["clusters"]:
        state["clusters"][name] = {"name": name, "status": "INIT", "labels": wanted["labels"], "jobs": []}
        return fail("RuntimeError", "Failed to run setup commands on an instance.")
    state["tasks"].append(task)
    if folder := task.get("workdir"):
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        state["workdirs"].append([path.relative_to(folder).as_posix() for path in files])
    if mounts := task.get("file_mounts"):
        paths = {there: Path(here) for there, here in mounts.items()}
        state["files"].append(
            {there: [f"{p.stat().st_mode & 0o777:o}", p.read_text()] for there, p in paths.items()}
        )
    given = [words[at + 1] for at, word in enumerate(words) if word == "--secret"]
    state["secrets"].append({variable: os.environ[variable] for variable in given})
    job = {"job_id": 1, "job_name": task["name"], "submitted_at": 1795916686.0, "start_at": 1795916701.5}
    job |= {"end_at": None, "status": "RUNNING"}
    state["clusters"][name] = {
        "name": name,
        "launched_at": 1795916680,
        "status": "UP",
        "autostop": wanted["autostop"]["idle_minutes"],
        "to_down": wanted["autostop"]["down"],
        "init_status_reason": None,
        "labels": wanted["labels"],
        "cloud": infra.partition("/")[0].capitalize(),
        "region": infra.partition("/")[2],
        "cluster_name_on_cloud": None,  # as "status" tells it of a cluster of Slurm
        "jobs": [job],
    }
    return 0


if __name__ == "__main__":
    main()
