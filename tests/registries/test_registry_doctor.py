"""What `doctor` says of a registry that is in order, and of one that is not."""

from __future__ import annotations

import pytest
from aiohttp import web
from realparts.parts import PASSWORD
from ringbinder.testing.ociregistry import OciServer
from ringbinder_registries import _doctor
from ringbinder_registries.dockerhub import DockerHubRegistry

from .conftest import Make


@pytest.mark.parametrize(
    ("left", "limit", "level", "told"),
    [
        ("76;w=21600", "100;w=21600", "ok", "has 76 of 100 pulls in 6 hours left for us"),
        ("0;w=21600", "100;w=21600", "warning", "has 0 of 100 pulls in 6 hours left for us"),
        ("", "", "ok", "names no limit of pulls"),
        ("x", "y", "ok", "names no limit of pulls"),
    ],
)
async def test_doctor_reports_docker_hubs_quota(
    guarded: OciServer, make: Make, left: str, limit: str, level: str, told: str
) -> None:
    guarded.put("ratelimitpreview/test", "latest")
    guarded.headers = {"RateLimit-Remaining": left, "RateLimit-Limit": limit} if left else {}
    registry = make(
        DockerHubRegistry, url=guarded.url, username="builder", password=PASSWORD, image_prefix="builder/x-"
    )
    *_, quota = await registry.doctor()
    assert quota.level == level
    assert told in quota.message
    assert guarded.uploads == 0


async def test_doctor_knows_that_docker_hub_wants_an_account(make: Make) -> None:
    assert _doctor.trial_repository("x-", "https://registry-1.docker.io") == ""
    assert _doctor.trial_repository("me/x-", "https://registry-1.docker.io") == "me/x-ringbinder-doctor"
    assert _doctor.trial_repository("r.example/x-", "https://r.example") == "x-ringbinder-doctor"


async def test_doctor_where_pushing_is_not_allowed(server: OciServer, make: Make) -> None:
    denied = {"errors": [{"code": "DENIED", "message": "read only"}]}
    server.answers = [
        web.json_response({}),
        web.Response(status=404),
        web.json_response(denied, status=403),
    ]
    findings = await make(url=server.url, image_prefix="x-").doctor()
    assert [finding.level for finding in findings] == ["ok", "ok", "error"]
    assert "answers without a password" in findings[1].message
    assert "does not let us push to x-ringbinder-doctor: HTTP status 403 (DENIED: read only)" in findings[2].message
