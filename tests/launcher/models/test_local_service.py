"""A version takes the place of another one on this machine, or leaves it as it was; with an engine of a few lines."""

import json
from dataclasses import dataclass, field

import pytest
from launcher.deployment import Ask, Order
from launcher.errors import UserError
from launcher.providers.local import service
from launcher.providers.local.service import LocalService

NAME = "demo-serve-digits"


@dataclass
class Engine:
    """Containers by name, each with its labels and whether it runs.

    Args:
        fails: words with which a command begins that is refused.
    """

    there: dict[str, dict[str, str]] = field(default_factory=dict)
    running: dict[str, bool] = field(default_factory=dict)
    fails: tuple[str, ...] = ()

    def call(self, *words: str, check: bool = True) -> str:
        if self.fails and words[: len(self.fails)] == self.fails:
            raise UserError(f"{' '.join(words)} is refused.")
        command, last = words[0], words[-1]
        if command == "run":
            name = words[words.index("--name") + 1]
            labels = [words[i + 1] for i, word in enumerate(words) if word == "--label"]
            self.there[name] = dict(each.split("=") for each in labels)
            self.running[name] = True
        elif command in ("start", "stop"):
            self.running[last] = command == "start"
        elif command == "rename":
            assert last not in self.there
            self.there[last], self.running[last] = self.there.pop(words[1]), self.running.pop(words[1])
        elif command == "rm":
            self.there.pop(last, None)
        elif command == "ps":
            model = next((word.partition("model=")[2] for word in words if "model=" in word), "")
            names = [
                name for name, labels in self.there.items() if model in ("", labels[f"{service.LABEL}.model"])
            ]
            return "\n".join(names)
        elif command == "inspect":
            return json.dumps([self.about(name) for name in words[1:]])
        return ""

    def about(self, name: str) -> dict[str, object]:
        return {
            "Name": f"/{name}",
            "Config": {"Labels": self.there[name]},
            "HostConfig": {"PortBindings": {"8080/tcp": [{"HostPort": "8080"}]}},
            "State": {"Status": "running" if self.running[name] else "exited"},
            "Image": "sha256:1",
        }

    def versions(self) -> dict[str, tuple[str, bool]]:
        return {
            name: (labels[f"{service.LABEL}.version"], self.running[name])
            for name, labels in self.there.items()
        }


@pytest.fixture
def engine(project: object, monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setattr(service, "_call", made.call)
    return made


def deploy(version: int, model: str = "digits") -> None:
    def passes(ask: Ask) -> None: ...

    LocalService().deploy(Order(model, version, "sha256:1"), passes)


@pytest.mark.parametrize("fails", [("stop",), ("rename", NAME), ("run", "--detach", "--name", NAME)])
def test_wherever_a_change_is_cut_off_the_one_before_answers_again(fails: tuple[str, ...], engine: Engine):
    deploy(1)
    engine.fails = fails
    with pytest.raises(UserError, match="is refused"):
        deploy(2)
    assert engine.versions() == {NAME: ("1", True)}


def test_a_model_whose_name_is_such_a_word_answers_as_any(engine: Engine):
    for model in ("digits", "before", "digits-before", "digits-trying-a"):
        deploy(1, model)
        deploy(2, model)
    found = LocalService().deployments()
    assert sorted(one.model for one in found) == ["before", "digits", "digits-before", "digits-trying-a"]
    assert {one.version for one in found} == {2}


def test_what_was_to_be_replaced_when_all_ended_answers_again(engine: Engine):
    deploy(1)
    engine.call("stop", NAME)
    engine.call("rename", NAME, NAME + service.BEFORE)
    engine.fails = ("run",)
    with pytest.raises(UserError, match="is refused"):
        deploy(2)
    assert engine.versions() == {NAME: ("1", True)}
