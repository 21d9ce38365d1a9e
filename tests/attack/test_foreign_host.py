"""DNS rebinding: under a host name that is not the server's, nothing is answered but probes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import ringbinder_server.serve
from quart import Quart
from ringbinder_server.app import create_app
from werkzeug.routing import Rule

if TYPE_CHECKING:
    from tests.server.conftest import Serve

LINK = "build/fake/owner/name/main"
FOREIGN = [
    "evil.example",
    "evil.example:8585",
    "127.0.0.1.evil.example",
    "localhost@evil.example",
    "[::1",
]
PARAMETER = re.compile(r"<(?:[a-z]+:)?([a-z_]+)>")
FOR_PROBES = {"/health", "/versions"}


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> list[Rule]:
    """The routes of the application that the test starts."""
    rules: list[Rule] = []

    def create(*arguments: Any) -> Quart:
        app = create_app(*arguments)
        rules.extend(app.url_map.iter_rules())
        return app

    monkeypatch.setattr(ringbinder_server.serve, "create_app", create)
    return rules


def paths(rules: list[Rule]) -> list[tuple[str, str]]:
    """Each method of each route, with a path of it."""
    given = {"provider": "fake", "spec": "owner/name/main", "filename": "home.js"}
    found = []
    for rule in rules:
        path = PARAMETER.sub(lambda match: given.get(match[1], "x"), rule.rule)
        found += [(method, path) for method in sorted(rule.methods or ())]
    return found


@pytest.mark.parametrize("host", FOREIGN)
async def test_foreign_host_is_refused_on_every_route(serve: Serve, rules: list[Rule], host: str) -> None:
    async with serve() as live:
        tried = [each for each in paths(rules) if each[1] not in FOR_PROBES and not each[1].startswith("/build/")]
        assert len(tried) > 30
        answers = {}
        for method, path in [*tried, ("GET", "/nowhere"), ("GET", "/v2/fake/x")]:
            response = await live.client.request(method, live.address.rstrip("/") + path, headers={"Host": host})
            answers[method, path] = response.status_code
            if method != "HEAD":
                assert "allowed_hosts" in response.text or response.status_code == 400, response.text
        # 400: the header is not the name of a host at all.
        assert set(answers.values()) == {403} or set(answers.values()) == {400}, answers
        assert live.gate.requests == []


@pytest.mark.parametrize("host", FOREIGN)
async def test_foreign_host_gets_an_event_from_build(serve: Serve, host: str) -> None:
    async with serve() as live:
        response = await live.client.get(live.address + LINK, headers={"Host": host})
        [data] = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
        assert json.loads(data)["status_code"] == 403
        assert live.gate.requests == []


async def test_unknown_address_is_answered_metrics_alone(serve: Serve, rules: list[Rule]) -> None:
    async with serve() as live:
        for method, path in paths(rules):
            if path not in FOR_PROBES and not path.startswith("/build/"):
                address = live.address.rstrip("/") + path
                response = await live.client.request(method, address, headers={"Host": "203.0.113.7"})
                assert (response.status_code == 403) is (path != "/metrics"), path


@pytest.mark.parametrize("path", ["health", "versions"])
async def test_probe_by_any_host_is_answered(serve: Serve, path: str) -> None:
    async with serve() as live:
        for host in ("10.1.2.3:8585", "evil.example"):
            assert (await live.client.get(live.address + path, headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("10.1.2.3:8585", 200),
        ("[fd00::1]:8585", 200),
        ("127.0.0.1", 200),
        ("evil.example", 403),
        ("10.1.2.3.evil.example", 403),
        ("", 403),
    ],
)
async def test_metrics_scraped_by_address_are_answered(serve: Serve, host: str, status: int) -> None:
    async with serve() as live:
        assert (await live.client.get(live.address + "metrics", headers={"Host": host})).status_code == status


@pytest.mark.parametrize("path", ["", "metrics", "about", "v2/fake/owner/name/main"])
async def test_named_host_is_answered(serve: Serve, path: str) -> None:
    for allowed in ("lab.example", "*"):
        async with serve({"Ringbinder.allowed_hosts": f"['{allowed}']"}) as live:
            response = await live.client.get(live.address + path, headers={"Host": "lab.example"})
            assert response.status_code == 200
