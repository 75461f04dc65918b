"""How engines and common state are deployed, and the deployment file of the documentation; without a cluster."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pydantic import ValidationError

from tests.support.serving import hosted

deployments = pytest.importorskip("refgc.serve.deployments", exc_type=ImportError)
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "scaling.md"


def deployed(application: Any) -> Any:
    """The only deployment of an application."""
    return application._bound_deployment


def test_a_replica_has_one_run_at_a_time_and_the_queue_has_an_end() -> None:
    one = deployed(deployments.engine({"engine": "correspondence", "replicas": 3, "cpus_per_replica": 2}))
    assert (one.name, one.num_replicas, one.max_ongoing_requests) == ("correspondence", 3, 1)
    assert one.max_queued_requests == 12
    assert one.ray_actor_options["num_cpus"] == 2
    assert one.ray_actor_options["num_gpus"] == 0


def test_more_replicas_are_started_where_runs_wait() -> None:
    one = deployed(deployments.engine({"engine": "diffusion", "replicas": 1, "max_replicas": 4}))
    scaling = one._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (1, 4, 1)
    assert one.max_queued_requests == 16
    assert one.ray_actor_options["num_gpus"] == 1


@pytest.mark.parametrize("options", [{"engine": "other"}, {"replicas": 0}, {"replica": 2}])
def test_a_mistake_in_a_deployment_file_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        deployments.engine(options)


def test_the_deployment_file_of_the_documentation_is_one() -> None:
    from ray.serve.schema import ServeDeploySchema

    (text,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    schema = ServeDeploySchema.model_validate(yaml.safe_load(text))
    built = {}
    for one in schema.applications:
        module, _, name = one.import_path.partition(":")
        built[one.name] = deployed(getattr(importlib.import_module(module), name)(one.args))
        assert one.route_prefix == f"/{built[one.name].name}"
    assert list(built) == ["refgc-state", "refgc-correspondence", "refgc-diffusion"]
    (slots,) = [one.args["slots"] for one in schema.applications if one.name == "refgc-state"]
    # Two for each replica, as `refgc serve` reckons.
    assert slots == {one.name: one.max_queued_requests // 2 for one in built.values() if one.name != "state"}


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"do":"enter"}', 200),
        (b'{"do":"enter","seconds":1e999}', 400),
        (b'{"do":"place","wait":1e999}', 400),
        (b'{"do":"count","name":"a","window":100000000000000000000000}', 400),
        (b'{"do":"count","name":"' + b"a" * 20_000 + b'"}', 413),
    ],
)
def test_a_question_that_would_harm_the_others_is_refused(content: bytes, status: int) -> None:
    """A run that takes for ever has no place in JSON, so that nobody behind it would hear how it stands."""
    with hosted(state=deployments.StateServer({"slots": {"correspondence": 1}})) as address:
        assert httpx.post(f"{address}/state/", content=content).status_code == status
        behind = httpx.post(f"{address}/state/", json={"do": "enter"}).json()
        assert httpx.post(f"{address}/state/", json={"do": "place", **behind}).status_code == 200
