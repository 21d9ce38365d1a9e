"""Images put together from layers that are known, at the real registry."""

from __future__ import annotations

import pytest
from ringbinder_layers.grouping import group

from .conftest import Start
from .gate import Gate
from .places import content_of, package

pytestmark = pytest.mark.real("docker-registry")

GROUPS = group([package(name, 50_000) for name in ("numpy", "pandas", "six")])


async def test_known_layers_are_neither_made_nor_sent(start: Start, gate: Gate) -> None:
    first = start()
    summary = (await first.build("first", GROUPS)).summary
    assert (summary.groups, summary.known, summary.made) == (3, 0, 3)
    assert sorted(first.made) == ["numpy", "pandas", "six"]
    assert 150_000 < summary.pushed < 151_000
    sent = gate.sent
    second = start()
    summary = (await second.build("second", GROUPS, "another text")).summary
    assert second.made == []
    assert (summary.groups, summary.known, summary.made) == (3, 3, 0)
    assert summary.mounted == 150_000
    assert summary.pushed < 1000
    assert gate.sent - sent < 3000
    assert await second.read("second") == [*map(content_of, GROUPS), b"another text"]
