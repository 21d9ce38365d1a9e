"""What `ringbinder doctor` says of a cluster."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from ringbinder.model import Finding
from ringbinder.testing import make_context
from ringbinder.testing.kubeapi import KubeApi
from ringbinder_builders._kubernetes_doctor import RIGHTS
from ringbinder_builders._kubernetes_options import KubernetesBuildOptions
from ringbinder_builders.kubernetes import KubernetesBuilder
from ringbinder_cluster.client import Patience

AUTH = base64.b64encode(b"we:a-pass-word").decode()


async def findings(folder: Path, **options: Any) -> list[Finding]:
    context = make_context(folder, "kubernetes")
    try:
        return list(await KubernetesBuilder(KubernetesBuildOptions(**options), context).doctor())
    finally:
        await context.services.close()


def put_secret(api: KubeApi, content: object) -> None:
    data = {"config.json": base64.b64encode(json.dumps(content).encode()).decode()}
    name = "binder-build-docker-config"
    api.objects["secrets"]["binder", name] = {"metadata": {"name": name}, "data": data}


async def test_all_is_well(api: KubeApi, tmp_path: Path) -> None:
    put_secret(api, {"auths": {"registry.example": {"auth": AUTH}}})
    rights, secret = await findings(tmp_path)
    assert (rights.level, secret.level) == ("ok", "ok")
    assert "namespace binder" in rights.message
    assert "create pods" in rights.message
    assert "registry.example" in secret.message
    assert "a-pass-word" not in secret.message
    assert api.requests["create selfsubjectaccessreviews"] == len(RIGHTS)


@pytest.mark.parametrize("right", RIGHTS, ids=str)
async def test_a_missing_right_is_named(api: KubeApi, tmp_path: Path, right: Any) -> None:
    api.forbidden = {(right.verb, right.resource)}
    [finding] = await findings(tmp_path, push_secret="")
    assert finding.level == "error"
    assert f"we may not {right} in namespace binder" in finding.message
    assert "Role" in finding.fix


@pytest.mark.parametrize(
    ("content", "level", "words"),
    [
        (None, "error", "is not there"),
        ({"auths": {}}, "error", "no credentials"),
        ([], "error", "no docker configuration"),
        ({"auths": {"registry.example": {"auth": "%%%"}}}, "error", "no docker configuration"),
        (
            {"auths": {"registry.example": {"auth": base64.b64encode(b"we").decode()}}},
            "error",
            "user:password",
        ),
        ({"auths": {"registry.example": {"identitytoken": "x"}}}, "ok", "registry.example"),
        ({"credsStore": "gcloud"}, "ok", "gcloud"),
    ],
)
async def test_the_push_secret(api: KubeApi, tmp_path: Path, content: object, level: str, words: str) -> None:
    if content is not None:
        put_secret(api, content)
    finding = (await findings(tmp_path))[-1]
    assert finding.level == level
    assert words in finding.message
    assert "binder-build-docker-config" in finding.message


async def test_a_push_secret_that_it_may_not_look_at_is_no_error(api: KubeApi, tmp_path: Path) -> None:
    api.forbidden = {("get", "secrets")}
    finding = (await findings(tmp_path))[-1]
    assert finding.level == "warning"
    assert "kubectl -n binder get secret" in finding.fix


async def test_no_api_server(api: KubeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await api.down()
    monkeypatch.setattr("ringbinder_builders._kubernetes_doctor.PATIENCE", Patience(first=0.02, in_all=0.2))
    [finding] = await findings(tmp_path)
    assert finding.level == "error"
    assert "does not answer" in finding.message


async def test_unknown_address_of_the_api_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    [finding] = await findings(tmp_path)
    assert finding.level == "error"
    assert "KUBECONFIG" in finding.fix
