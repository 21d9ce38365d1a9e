"""A notebook that fills the disk is stopped, and its files are kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest
from realparts.embedded import PLAN, Embedded, request
from ringbinder.testing import RecordedServers
from ringbinder.testing.kernel import open_kernel
from ringbinder_embedded.sessions import summary

pytestmark = pytest.mark.real("uv", "jupyterlab")


async def test_notebook_beyond_its_disk_is_stopped(embedded: Embedded) -> None:
    image = await embedded.build(embedded.plan({"data.txt": "data\n"}))
    launcher = embedded.launcher(disk_limit=50_000_000)
    async with launcher.lifespan():
        server = await launcher.launch(image, request(), PLAN, embedded.log)
        kernel = await open_kernel(server)
        code = f"import os\nos.mkdir('d'); f = open('d/big', 'wb'); f.write({os.urandom(9)!r} * 10**7)\n"
        assert await kernel.run(code + "f.flush(); os.fsync(f.fileno()); os.chmod('d', 0); print(1)") == "1\n"
        await launcher._running[server.id].ended
        await kernel.close()
    facts = summary(embedded.state, server.id)
    servers = cast(RecordedServers, embedded.context.servers)
    ((id, reason, _, message),) = servers.ended
    assert (id, reason, facts["reason"]) == (server.id, "full", "full")
    assert "more than 50000000 (LocalLauncher.disk_limit)" in message
    assert facts["changed"] == ["d/big"]
    assert Path(facts["kept"], "d", "big").stat().st_size == 9 * 10**7
