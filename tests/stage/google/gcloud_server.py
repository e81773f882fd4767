"""The real gcloud without its start: one process has imported it, and a fork of it runs each command.

gcloud takes two seconds of computing to import itself, and preparing a project calls it some fifty times.

    PYTHON gcloud_server.py serve SOCKET SDK       with gcloud's own Python; SDK is its folder; prints a line when it is up
    PYTHON gcloud_server.py SOCKET ARGUMENT...     what `gcloud ARGUMENT...` would do, with its exit status
"""

import atexit
import functools
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BLOCK = 1 << 16


@functools.cache
def gcloud() -> str:
    """A shell's words for a gcloud that starts at once, with the caller's environment; its server ends with this process."""
    told = ("info", "--format=value(basic.python_location,installation.sdk_root)")
    found = subprocess.run(["gcloud", *told], capture_output=True, text=True, check=True).stdout
    python, sdk = found.rstrip("\n").split("\t")
    folder = tempfile.mkdtemp(prefix="gcloud-")
    path = f"{folder}/socket"
    command = [python, __file__, "serve", path, sdk]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    atexit.register(shutil.rmtree, folder)
    atexit.register(server.wait)
    atexit.register(server.terminate)
    assert server.stdout
    assert server.stdout.readline() == "up\n", "gcloud cannot be imported: see above"
    # Without the folders of packages Python starts in a hundredth of a second.
    return shlex.join([python, "-I", "-S", str(Path(__file__)), path])


def serve(path: str, sdk: str) -> None:
    """Runs commands until it is killed."""
    sys.path[:0] = [f"{sdk}/lib", f"{sdk}/lib/third_party"]  # as its own gcloud.py does
    from googlecloudsdk import gcloud_main  # pyright: ignore[reportMissingImports]

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes that answer
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(16)
        print("up", flush=True)
        while True:
            client, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _answer(client, gcloud_main)
            client.close()


def _answer(client: socket.socket, gcloud_main: Any) -> None:
    """Runs one command in a process of its own, and tells its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, files, _, _ = socket.recv_fds(client, BLOCK, 3)
    while block := client.recv(BLOCK):
        message += block
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        client.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    client.close()
    given = json.loads(message)
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.chdir(given["folder"])
    os.environ.clear()
    os.environ.update(given["env"])
    sys.argv = ["gcloud", *given["arguments"]]
    sys.exit(gcloud_main.main())


def run(path: str, arguments: list[str]) -> int:
    """Has the server run a command with this process's files, folder and environment; gives its exit status."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        given = {"arguments": arguments, "folder": os.getcwd(), "env": dict(os.environ)}
        message = json.dumps(given).encode()
        sent = socket.send_fds(server, [message], [0, 1, 2])
        server.sendall(message[sent:])
        server.shutdown(socket.SHUT_WR)
        return int(server.recv(16) or 1)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        sys.exit(run(sys.argv[1], sys.argv[2:]))
