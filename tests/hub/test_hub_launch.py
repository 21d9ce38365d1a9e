"""The launcher against real JupyterHubs, versions 5 and 6."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from ringbinder.model import Server
from ringbinder.testing import LauncherCase, LauncherContract, RecordingLog
from ringbinder.testing.kernel import api, open_kernel

from .conftest import BROKEN, ENDLESS, IMAGE, JUPYTER, PLAN, REF, REPO, Make, wish
from .real_hub import Hub


async def answers(server: Server) -> bool:
    async with api(server) as client, client.get("api/status") as answer:
        return answer.status == 200


class TestJupyterHubLauncher(LauncherContract):
    @pytest.fixture
    async def case(self, each_hub: Hub, make: Make) -> LauncherCase:
        async def left() -> Collection[str]:
            processes = [str(process.pid) for process in each_hub.processes()]
            return [*each_hub.users(), *processes]

        return LauncherCase(
            launcher=make(each_hub.url), plan=PLAN, image=IMAGE, request=wish(), answers=answers,
            broken=BROKEN, endless=ENDLESS, endless_line="Spawning server", left=left,
        )  # fmt: skip


async def test_from_a_launch_to_an_executed_cell(each_hub: Hub, make: Make) -> None:
    launcher, log = make(each_hub.url), RecordingLog()
    server = await launcher.launch(JUPYTER, wish(), PLAN, log)
    kernel = await open_kernel(server)
    try:
        assert await kernel.run("print(6 * 7)") == "42\n"
        names = ["REPO_URL", "REF_URL", "LAUNCH_HOST", "REQUEST", "PERSISTENT_REQUEST", "CLIENT_IP"]
        reason = await kernel.run(f"import os; print([os.environ['BINDER_' + n] for n in {names}])")
    finally:
        await kernel.close()
    assert reason == str([
        REPO.url, REPO.ref_url, "http://127.0.0.1:8585/", "v2/gh/some/course/HEAD", f"v2/gh/some/course/{REF}", "",
    ]) + "\n"  # fmt: skip
    assert "Server ready" in log.text
    assert server.image == JUPYTER.name
    argv = [" ".join(process.cmdline()) for process in each_hub.processes()]
    assert argv
    assert not any(server.token.reveal() in line for line in argv)
    assert await launcher.stop(server)
