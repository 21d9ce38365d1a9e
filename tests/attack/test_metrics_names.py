"""Where people log in, nobody learns from the metrics what others launch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest
from ringbinder.model import Redirect, User

if TYPE_CHECKING:
    from tests.server.conftest import Live, Serve

LINKS = ["build/fake/owner/private-one/main", "build/fake/owner/private-two/main"]
ADA = {"Authorization": "Bearer ada"}
PROMETHEUS = {"Authorization": "Bearer prometheus"}


class Desk:
    """Believes everybody; `prometheus` is a program."""

    async def authenticate(self, headers: Mapping[str, str], target: str) -> User | Redirect | None:
        name = headers.get("authorization", "").removeprefix("Bearer ")
        return User(name, service=name == "prometheus") if name not in ("", "nobody") else None


async def launched(live: Live) -> None:
    for link in LINKS:
        assert (await live.events(link, ADA))[-1]["phase"] == "ready"


@pytest.mark.parametrize("headers", [{}, ADA, {"Cookie": "desk=prometheus"}])
async def test_metrics_with_login_name_no_repository(serve: Serve, headers: dict[str, str]) -> None:
    async with serve({"BinderHub.auth_enabled": "true"}, plugin=Desk()) as live:
        await launched(live)
        response = await live.client.get(live.address + "metrics", headers=headers)
        assert response.status_code == 200
        assert "private" not in response.text
        [line] = [line for line in response.text.splitlines() if line.startswith("binderhub_launch_count_total{")]
        assert line.endswith("} 2.0"), line
        assert 'repo=""' in line
        assert 'status="success"' in line


async def test_metrics_with_login_name_repositories_to_service(serve: Serve) -> None:
    async with serve({"BinderHub.auth_enabled": "true"}, plugin=Desk()) as live:
        await launched(live)
        text = (await live.client.get(live.address + "metrics", headers=PROMETHEUS)).text
        assert "private-one" in text
        assert "private-two" in text


async def test_metrics_with_bad_token_are_refused(serve: Serve) -> None:
    async with serve({"BinderHub.auth_enabled": "true"}, plugin=Desk()) as live:
        response = await live.client.get(live.address + "metrics", headers={"Authorization": "Bearer nobody"})
        assert response.status_code == 401


async def test_metrics_without_login_name_repositories(serve: Serve) -> None:
    async with serve() as live:
        await launched(live)
        assert "private-one" in (await live.client.get(live.address + "metrics")).text
