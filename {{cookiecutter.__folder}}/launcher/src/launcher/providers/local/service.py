"""Models that answer on this machine: containers of their image by Docker, on the loopback address alone."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any

from ...deployment import Ask, Check, Deployment, Order, SilentError, whole
from ...errors import UserError
from ...project import project
from . import docker

PLACE = "local"
PORT = 8080  # of the container, and here where no other is said
LABEL = "launcher.serve"  # begins the labels by which a container is found again
# In the names of those that do not answer for all; no model's name has a dot.
TRYING, BEFORE = ".trying-", ".before"
# It goes on for three after SIGTERM, and has ten for answers that are being written.
END_SECONDS = 15
TIMEOUT = 10  # seconds, for an answer
HINT = "start it, or deploy somewhere else with to=..."
# It reads its model and writes nowhere; the machine may be started anew, and it with it.
LIMITS = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


def connect() -> LocalService:
    """Give this machine as a place for models."""
    return LocalService()


@dataclass(frozen=True)
class Container:
    """A container of a model, as its labels and the engine tell."""

    name: str
    model: str
    version: int
    state: str
    port: int
    image: str

    @property
    def answers(self) -> bool:
        """Whether it is the one that people ask."""
        return self.name == _name(self.model)


class LocalService:
    """One container for each model, at a port of its own."""

    SETTINGS = ("port",)
    REMOTE = False
    where = ""

    def at(self, where: str) -> LocalService:
        """Give this machine, which is the only one."""
        return self

    def prepare(self, order: Order) -> float:
        """Refuse a port that is none, and a machine without Docker; it costs nothing.

        Raises:
            UserError: saying which.
        """
        whole(order.settings, "port", 65535, str(PORT))
        _call("version")
        return 0.0

    def deploy(self, order: Order, check: Check) -> Deployment:
        """Try a version at a port of its own; if it passes, let it answer at the port of the one before.

        Raises:
            UserError: it does not start or does not pass; then the one before answers as it did.
        """
        name = _name(order.model)
        for left in self._containers(order.model):  # by a deployment that was ended in between
            if not left.answers:
                self._mend(left, name)
        trying = f"{name}{TRYING}{secrets.token_hex(3)}"
        try:
            _run(order, trying, 0)
            self._check(trying, check)
        finally:
            _call("rm", "--force", trying, check=False)
        return self._replace(order, name, check)

    def rollback(self, model: str) -> Deployment:
        """There is none: nothing of the version before is kept.

        Raises:
            UserError: saying what does the same.
        """
        raise UserError(
            f"Here the version before is not kept; deploy it again: uv run models deploy {model}@vN to=local."
        )

    def remove(self, model: str) -> bool:
        """End and remove the containers of a model; tell whether there were any."""
        found = self._containers(model)
        for one in found:
            _call("stop", "--time", str(END_SECONDS), one.name, check=False)
            _call("rm", "--force", "--volumes", one.name)
            _forget(one.image)
        return bool(found)

    def deployments(self) -> list[Deployment]:
        """Give what answers here, of this project."""
        return [_told(one) for one in self._containers() if one.answers]

    def _replace(self, order: Order, name: str, check: Check) -> Deployment:
        """Put a version at the port where people ask; the one before waits until it is there."""
        old = next((one for one in self._containers(order.model) if one.answers), None)
        port = whole(order.settings, "port", 65535, str(old.port if old else PORT))
        try:
            if old:
                _call("stop", "--time", str(END_SECONDS), name)
                _call("rename", name, name + BEFORE)
            _run(order, name, port)
            self._check(name, check)
        except BaseException:
            if old:
                self._back(order.model, name)
            else:
                _call("rm", "--force", name, check=False)
            raise
        if old:
            _call("rm", "--force", name + BEFORE)
            _forget(old.image)
        return Deployment(order.model, order.version, PLACE, f"http://127.0.0.1:{port}")

    def _back(self, model: str, name: str) -> None:
        """Let the one before answer again, however far its end has come."""
        if any(one.name == name + BEFORE for one in self._containers(model)):
            _call("rm", "--force", name, check=False)
            _call("rename", name + BEFORE, name)
        _call("start", name)

    def _mend(self, left: Container, name: str) -> None:
        """Remove what was being tried, and let answer again what was to be replaced."""
        if left.name == name + BEFORE and not any(
            one.answers for one in self._containers(left.model)
        ):
            self._back(left.model, name)
        else:
            _call("rm", "--force", left.name)

    def _check(self, name: str, check: Check) -> None:
        try:
            check(_asking(name))
        except UserError as error:
            # Tells more than that it was silent.
            said = " ".join(docker.logs(name, 3).split())[-300:] or "nothing"
            raise UserError(f"{error} Its log ends with: {said}") from error

    def _containers(self, model: str = "") -> list[Container]:
        wanted = ["--filter", f"label={LABEL}.project={project().slug}"]
        if model:
            wanted += ["--filter", f"label={LABEL}.model={model}"]
        ids = _call("ps", "--all", "--quiet", "--no-trunc", *wanted).split()
        if not ids:
            return []
        return [_container(each) for each in json.loads(_call("inspect", *ids))]


def _container(found: dict[str, Any]) -> Container:
    labels, bound = found["Config"]["Labels"], found["HostConfig"]["PortBindings"] or {}
    port = next((one["HostPort"] for several in bound.values() for one in several or ()), "")
    return Container(
        name=found["Name"].lstrip("/"),
        model=labels[f"{LABEL}.model"],
        version=int(labels[f"{LABEL}.version"]),
        state=found["State"]["Status"],
        port=int(port or 0),
        image=found["Image"],
    )


def _told(one: Container) -> Deployment:
    state = "" if one.state == "running" else one.state
    url = f"http://127.0.0.1:{one.port}"
    return Deployment(one.model, one.version, PLACE, url, 0 if state else 100, state)


def _run(order: Order, name: str, port: int) -> None:
    """Start a container; port 0 is any that is free."""
    command = ["run", "--detach", "--name", name, *LIMITS]
    command += ["--publish", f"127.0.0.1:{port or ''}:{PORT}"]
    command += ["--restart", "unless-stopped"] if port else []
    labels = {"project": project().slug, "model": order.model, "version": order.version}
    for key, value in labels.items():
        command += ["--label", f"{LABEL}.{key}={value}"]
    _call(*command, order.image)


def _asking(name: str) -> Ask:
    """Give what asks a container, at the port that the engine has given it."""

    def ask(path: str, body: Any) -> tuple[int, Any]:
        import requests

        at = _call("port", name, f"{PORT}/tcp", check=False).splitlines()
        if not at:
            raise SilentError("it has ended")
        method = "GET" if body is None else "POST"
        # Not by a proxy of this machine's environment: it is on the loopback address.
        with requests.Session() as session:
            session.trust_env = False
            try:
                answer = session.request(
                    method, f"http://{at[0]}{path}", json=body, timeout=TIMEOUT
                )
                return answer.status_code, answer.json()
            except (requests.RequestException, ValueError) as error:
                raise SilentError(f"no answer yet: {type(error).__name__}") from error

    return ask


def _forget(image: str) -> None:
    """Remove an image, unless a container or another name has it; it is built again in seconds."""
    _call("rmi", image, check=False)


def _name(model: str) -> str:
    return f"{project().slug}-serve-{model}"


def _call(*words: str, check: bool = True) -> str:
    return docker.call(*words, check=check, hint=HINT)
