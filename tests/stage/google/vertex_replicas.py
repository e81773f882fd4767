"""The containers of one custom job: one for each replica, started from the image anew each time."""

import threading
import time
from typing import Any

from stage import containers
from stage.google.identity import Identity
from stage.google.vertex_log import JobLog
from stage.google.vertex_nodes import Node, Settings, Trial, environment


class Replicas:
    """Starts and stops them, and keeps what they print.

    Attributes:
        restarts: starts of a container after the first one of its node, for whatever reason.
        started: (task, container's name, exit status or None) of every start.
        machine_seconds: seconds of all machines together, which is what is paid for.
    """

    def __init__(
        self,
        number: str,
        spec: Any,
        identity: Identity,
        settings: Settings,
        stage: str,
        log: JobLog,
        trial: Trial | None,
    ) -> None:
        self.id, self.spec, self.identity, self.settings = number, spec, identity, settings
        self.stage, self.log, self.trial = stage, log, trial
        self.restarts, self.machine_seconds = 0, 0.0
        self.started: list[list[Any]] = []
        self.nodes = [
            Node(pool, number, index)
            for number, pool in enumerate(spec.worker_pool_specs)
            for index in range(pool.replica_count)
        ]
        self._lock = threading.RLock()

    def source(self, image: str) -> str:
        """Where an image is really pulled from."""
        host, slash, rest = image.partition("/")
        return f"{self.settings.mirrors.get(host, host)}{slash}{rest}"

    def start_all(self) -> None:
        for node in self.nodes:
            node.taken = False
            self.start_one(node)

    def start_one(self, node: Node) -> None:
        """Starts a node's container from its image: nothing that an earlier one wrote is there."""
        if any(task == node.task for task, *_ in self.started):
            self.restarts += 1
        pool, trial = node.pool, self.trial
        container = containers.Container(
            self.source(pool.image_uri),
            self.stage,
            environment(self, node) | (trial.env if trial else {}),
            [*pool.args, *(trial.args if trial else ())],
            pool.command,
            options=(*(trial.options if trial else ()), *self.settings.host(node.machine)),
        )
        self.started.append([node.task, container.name, None])
        streams = ((container.process.stdout, "INFO"), (container.process.stderr, "ERROR"))
        node.readers = [
            threading.Thread(target=self.log.read, args=(node.task, stream, severity), daemon=True)
            for stream, severity in streams
        ]
        for reader in node.readers:
            reader.start()
        node.since = time.monotonic()
        with self._lock:
            node.container = container

    def end(self, node: Node, status: int | None) -> None:
        """Removes a node's container, once all that it printed is read."""
        with self._lock:
            container, node.container = node.container, None
        if container is None:
            return
        container.remove()
        for reader in node.readers:
            reader.join(30)
        self.machine_seconds += time.monotonic() - node.since
        for start in self.started:
            if start[1] == container.name:
                start[2] = status if status is not None else container.process.poll()

    def stop_all(self, grace_seconds: float | None) -> None:
        """Stops what runs, all at once: with SIGTERM and a grace, or without."""

        def stop(node: Node) -> None:
            container = node.container
            if container is not None:
                if grace_seconds is None:
                    container.kill()
                else:
                    container.stop(grace_seconds)
                self.end(node, container.wait(60))

        threads = [threading.Thread(target=stop, args=(node,)) for node in self.nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
