"""Microsoft's own clients find the stand-ins for Azure ML to be the service: azure-ai-ml, azure-identity."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from stage import azure, rest
from stage.azure import hosts
from stage.azure.imds import Metadata
from stage.azure.ml_bench import SIZE, Bench, bench


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with azure.serve(tmp_path_factory.mktemp("azure")) as world:
        yield bench(world)


@pytest.fixture
def client(here: Bench, monkeypatch: pytest.MonkeyPatch) -> Any:
    """azure-ai-ml's client as the subscription's owner."""
    here.world.ml.reset()
    for name, value in here.world.environment.items():
        monkeypatch.setenv(name, value)
    from azure.ai.ml import MLClient
    from azure.identity import EnvironmentCredential

    place = (here.world.subscription, "demo", "demo-ml")
    return MLClient(EnvironmentCredential(), *place, enable_telemetry=False)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")
def test_azure_ai_ml_submits_finds_and_cancels_jobs(here: Bench, client: Any) -> None:
    from azure.ai.ml import command
    from azure.ai.ml.entities import ManagedIdentityConfiguration

    identity = ManagedIdentityConfiguration(client_id=here.trainer.client_id)
    what = {"command": "echo", "environment": "demo:1", "identity": identity, "instance_type": SIZE}
    made = client.jobs.create_or_update(command(name="a", experiment_name="demo", **what))
    assert (made.name, made.status) == ("a", "NotStarted")
    assert made.services["Studio"].endpoint.startswith("https://ml.azure.com/runs/a?")
    here.world.ml.start("a")
    assert [(job.name, job.status) for job in client.jobs.list()] == [("a", "Running")]

    def end_it() -> None:  # it is ended a while after that was asked for, and the client waits for it
        while here.world.ml.job("a").status != "CancelRequested":
            time.sleep(0.02)
        here.world.pass_time(10)

    over = threading.Thread(target=end_it, daemon=True)
    over.start()
    client.jobs.begin_cancel("a").result(60)
    over.join()
    assert client.jobs.get("a").status == "Canceled"


@pytest.mark.filterwarnings("ignore")
def test_azure_ai_ml_reads_sweeps_environments_quotas_and_computes(here: Bench, client: Any) -> None:
    here.submit("s", here.sweep_body())
    here.world.pass_time(1)
    assert client.jobs.get("s").type == "sweep"
    assert [job.name for job in client.jobs.list(parent_job_name="s")] == ["s_0", "s_1"]
    assert "demo/train" in client.environments.get("demo", "1").image
    assert any(one.limit == -1 for one in client.compute.list_usage())
    assert SIZE in [one.name for one in client.compute.list_sizes()]
    body = {"computeType": "ComputeInstance", "properties": {"vmSize": SIZE}}
    given = {"location": here.world.region, "properties": body}
    here.ask("PUT", "computes/nbk", given, who=here.world.owner).raise_for_status()
    assert [(one.name, one.type) for one in client.compute.list()] == [("nbk", "computeinstance")]


# What a job's container asks


def test_azure_identity_gets_tokens_of_the_jobs_identity(
    here: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

    identity = hosts.Identity(here.world, here.trainer, told=True)
    with rest.serve(identity) as url:
        for name, value in identity.environment.items():
            monkeypatch.setenv(name, value.replace(f"http://{hosts.MSI}", url))
        with pytest.raises(ClientAuthenticationError):
            ManagedIdentityCredential().get_token("https://storage.azure.com/.default")
        monkeypatch.setenv("AZURE_CLIENT_ID", identity.environment["DEFAULT_IDENTITY_CLIENT_ID"])
        token = DefaultAzureCredential().get_token("https://storage.azure.com/.default")
    claims = here.world.people.read(token.token)
    assert claims is not None
    assert (claims["oid"], claims["aud"]) == (here.trainer.object_id, "https://storage.azure.com")
    assert token.expires_on > time.time() + 3600


def test_a_machine_announces_its_end_to_who_asks_rightly() -> None:
    machine = Metadata("vm1", SIZE, "westeurope")
    path, headers = "/metadata/scheduledevents?api-version=2020-07-01", {"Metadata": "true"}
    with rest.serve(machine) as url:
        get = requests.Session()
        get.trust_env = False
        assert get.get(url + path).status_code == 400
        assert get.get(url + path, headers=headers | {"X-Forwarded-For": "1.1.1.1"}).status_code == 400
        assert get.get(f"{url}/metadata/scheduledevents", headers=headers).status_code == 400
        assert get.get(url + path, headers=headers).json() == {"DocumentIncarnation": 1, "Events": []}
        machine.announce(time.time() + 30)
        said = get.get(url + path, headers=headers).json()
        (event,) = said["Events"]
        assert (said["DocumentIncarnation"], event["EventType"], event["Resources"]) == (
            2,
            "Preempt",
            ["vm1"],
        )
        name = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"
        assert get.get(url + name, headers=headers).text == "vm1"
        machine.revoke()
        assert get.get(url + path, headers=headers).json()["Events"] == []
