"""A Ringbinder that is killed in the middle of launches: the next start knows them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from ringbinder.testing import RecordingLog
from ringbinder_launchers._api import user_path
from ringbinder_launchers._places import Place
from ringbinder_launchers._records import Records
from ringbinder_launchers._spawn import remove

from .conftest import PLAN, SLOW, Make, wish
from .real_hub import TOKEN, Hub
from .test_hub_trouble import until

LAUNCHING = """
import asyncio, json, sys
from pathlib import Path
from hub.conftest import ENDLESS, PLAN, SLOW, wish
from ringbinder.secret import Secret
from ringbinder.testing import RecordingLog, make_context
from ringbinder_launchers._options import LauncherOptions
from ringbinder_launchers.jupyterhub import JupyterHubLauncher

async def main(url, token, folder):
    options = LauncherOptions(hub_url=url, hub_api_token=Secret(token))
    launcher = JupyterHubLauncher(options, make_context(Path(folder), "jupyterhub"))
    async with launcher.lifespan():
        await asyncio.gather(
            launcher.launch(ENDLESS, wish("gone"), PLAN, RecordingLog()),
            launcher.launch(SLOW, wish("back"), PLAN, RecordingLog()),
        )

asyncio.run(main(*json.loads(sys.argv[1])))
"""


async def test_what_no_one_goes_on_with_is_taken_away(the_hub: Hub, make: Make, tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    words = json.dumps([the_hub.url, TOKEN, str(tmp_path / "another pod")])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), str(tests / "real")])}
    with subprocess.Popen([sys.executable, "-c", LAUNCHING, words], env=env) as killed:
        try:
            await until(lambda: sum(bool(servers) for servers in the_hub.users().values()) == 2)
        finally:
            os.kill(killed.pid, signal.SIGKILL)
    launcher = make(the_hub.url, resume_time=1.0)
    async with launcher.lifespan():
        server = await launcher.launch(SLOW, wish("back"), PLAN, RecordingLog())
        await until(lambda: set(the_hub.users()) == {server.id.removesuffix("/")})
        assert [each.id for each in await launcher.servers()] == [server.id]
        assert await launcher.stop(server)
    assert the_hub.users() == {}


async def test_launch_that_a_replica_reports_is_not_taken(each_hub: Hub, make: Make) -> None:
    place, records = Place("course-k2v5r7x3m4q6"), Records()
    api = make(each_hub.url).api
    assert await records.begin(api, place)
    another = Records()
    assert await another.abandoned(api) == []
    await records.report(api, place)
    assert await another.abandoned(api) == []
    assert await another.abandoned(api) == [place]
    assert not await records.begin(api, place), "its client goes on with it"
    assert await another.abandoned(api) == []
    await records.end(api, place)
    assert await another.abandoned(api) == []
    assert set(each_hub.users()) == {place.user}
    await remove(api, place)
    assert each_hub.users() == {}


async def test_name_that_a_person_chose_records_no_launch(the_hub: Hub, make: Make) -> None:
    api = make(the_hub.url).api
    names = [
        "christopherb",
        "christopherb-launching-",
        "christopherb-launching-abcdefghijklmnop",
        "é-launching-é",
    ]
    assert (await api.ask("POST", "users", {"usernames": names})).ok
    records = Records()
    assert [await records.abandoned(api) for _ in range(2)] == [[], []]
    for name in names:
        assert (await api.ask("DELETE", f"users/{user_path(name)}")).ok
