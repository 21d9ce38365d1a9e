"""Launches of the real JupyterLab."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import aiohttp
import psutil
import pytest
from attrs import evolve
from realparts.turned import TurnedClock
from ringbinder.errors import TransientError, UserError
from ringbinder.folder_image import FolderImage
from ringbinder.model import Image, Server
from ringbinder.testing import RecordingLog
from ringbinder.testing.context import descendants
from ringbinder.testing.kernel import api, open_kernel
from ringbinder.testing.policy import RecordingTicket
from ringbinder_embedded.installed import has_package
from ringbinder_embedded.launcher import LocalLauncher
from ringbinder_embedded.sessions import summary

from .conftest import PLAN, Embedded, request

pytestmark = pytest.mark.real("uv", "jupyterlab")

PATIENCE = 90.0
FILES = {
    "requirements.txt": "six==1.16.0\n",
    "postBuild": "python -m ipykernel install --user --name other --display-name Other\ntouch ~/notes.txt\n",
    "data.txt": "data\n",
    "remove.txt": "",
}


async def launched(embedded: Embedded, launcher: LocalLauncher) -> Server:
    image = await embedded.build(embedded.plan(FILES))
    return await launcher.launch(image, request(), PLAN, embedded.log)


async def until_ended(embedded: Embedded, launcher: LocalLauncher, server: Server) -> None:
    deadline = time.monotonic() + PATIENCE
    while server.id in {running.id for running in await launcher.servers()}:
        assert time.monotonic() < deadline, "the server was not stopped"
        await asyncio.sleep(0.1)


def processes_of(server: Server) -> list[psutil.Process]:
    """Whatever has the session's folder in its environment."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if server.id in process.environ().get("REPO_DIR", ""):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.quick  # the one JupyterLab of `make test`
async def test_a_notebook_from_start_to_stop(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "planted-1")
    monkeypatch.setenv("UV_INDEX_PRIVATE_PASSWORD", "planted-2")
    monkeypatch.setenv("http_proxy", "http://user:planted-3@127.0.0.1:9/")
    before = descendants()
    launcher = embedded.launcher()
    async with launcher.lifespan():
        server = await launched(embedded, launcher)
        assert list(await launcher.servers()) == [server]
        work = Path(server.extra["work_folder"])
        assert server.url.startswith("http://localhost:")
        async with api(server) as client:
            async with client.get("/api/kernelspecs") as answer:
                specs = await answer.json()
            assert set(specs["kernelspecs"]) >= {"python3", "other"}
            for name in ("python3", "other"):
                program = specs["kernelspecs"][name]["spec"]["argv"][0]
                assert program == str(work.parent / "overlay" / "bin" / "python")
            async with client.get("/lab") as answer:
                assert answer.status == 200
            plugin = "@jupyterlab/apputils-extension:notification"
            async with client.get(f"/lab/api/settings/{plugin}") as answer:
                schema = (await answer.json())["schema"]
            assert schema["properties"]["fetchNews"]["default"] == "false", "a new page asks about news"
        wrong = {"Authorization": "token wrong"}
        async with (
            aiohttp.ClientSession(server.url, headers=wrong) as stranger,
            stranger.get("/api/status") as no,
        ):
            assert no.status == 403
        for process in processes_of(server):
            assert server.token.reveal() not in " ".join(process.cmdline())

        kernel = await open_kernel(server)
        assert await kernel.run("print(6*7)") == "42\n"
        assert await kernel.run("import os; print(os.getcwd())") == f"{work}\n"
        assert await kernel.run("print(open(os.path.expanduser('~/notes.txt')).read())") == "\n"
        reported = await kernel.run("print(dict(os.environ))")
        assert "'BINDER_LAUNCH_HOST': 'http://127.0.0.1:8585/'" in reported
        assert "planted" not in reported
        assert os.environ["HOME"] not in (await kernel.run("print(os.environ['HOME'])")).splitlines()
        await kernel.close()
        assert await launcher.stop(server)
        assert await launcher.servers() == []
        assert await embedded.left_over(before) == []
        assert not work.exists(), "an unchanged session leaves nothing"
        assert summary(embedded.state, server.id)["kept"] is None
        assert not await launcher.stop(evolve(server, id="unknown"))


async def test_what_is_installed_in_a_notebook_stays_in_it(embedded: Embedded) -> None:
    image = await embedded.build(embedded.plan(FILES))
    assert image.path is not None
    packages = next((FolderImage(image.path).env.place / "lib").glob("python3.*/site-packages"))
    before = {path.name for path in packages.iterdir()}
    launcher = embedded.launcher()
    async with launcher.lifespan():
        server = await launcher.launch(image, request(), PLAN, embedded.log)
        kernel = await open_kernel(server)
        assert await kernel.run("import six; print(six.__version__)") == "1.16.0\n"
        reason = await kernel.run("!pip install -q 'six==1.17.0' 'iniconfig' && which pip python ipython")
        overlay = Path(server.extra["work_folder"]).parent / "overlay" / "bin"
        assert reason.split()[-3:] == [str(overlay / name) for name in ("pip", "python", "ipython")], reason
        code = "import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', %r], text=True))"
        new = "import six, iniconfig; print(six.__version__)"
        assert await kernel.run(code % new) == "1.17.0\n\n"
        assert await kernel.run("%pip uninstall -q -y iniconfig") != ""
        await kernel.close()
        other = await launcher.launch(image, request(), PLAN, embedded.log)
        kernel = await open_kernel(other)
        assert await kernel.run("import six; print(six.__version__)") == "1.16.0\n"
        await kernel.close()
    assert {path.name for path in packages.iterdir()} - {"__pycache__"} == before - {"__pycache__"}
    assert await launcher.servers() == []


async def test_changed_files_are_kept(embedded: Embedded) -> None:
    launcher = embedded.launcher()
    async with launcher.lifespan():
        server = await launched(embedded, launcher)
        work = Path(server.extra["work_folder"])
        kernel = await open_kernel(server)
        code = (
            "import os; open('new.txt', 'w').close(); os.remove('remove.txt'); "
            "open('data.txt', 'a').write('x'); "
            "os.mkdir('.ipynb_checkpoints'); open('.ipynb_checkpoints/a', 'w').close(); "
            "open(os.path.expanduser('~/found.txt'), 'w').close()"
        )
        assert await kernel.run(code) == ""
        await kernel.close()
        await launcher.stop(server)
    facts = summary(embedded.state, server.id)
    assert facts["kept"] == str(work)
    assert facts["changed"] == ["data.txt", "home/found.txt", "new.txt", "remove.txt"]
    assert (facts["reason"], facts["ended"] > facts["started"]) == ("stopped", True)
    assert (work / "data.txt").read_text() == "data\nx"
    assert sorted(path.name for path in work.parent.iterdir()) == ["home", "work"]
    assert sorted(path.name for path in work.parents[1].iterdir()) == ["box", "session.json"]
    assert await launcher.stop(server), "ending an ended one is no error"


async def test_start_goes_around_the_server(embedded: Embedded) -> None:
    start = '#!/bin/bash\nexport GREETING="hello $(basename "$REPO_DIR")"\nexec "$@"\n'
    plan = embedded.plan({"binder/start": start})
    launcher = embedded.launcher()
    async with launcher.lifespan():
        server = await launcher.launch(await embedded.build(plan), request(), PLAN, embedded.log)
        kernel = await open_kernel(server)
        assert await kernel.run("import os; print(os.environ['GREETING'])") == "hello work\n"
        await kernel.close()


async def test_start_with_windows_line_endings_is_named(embedded: Embedded) -> None:
    image = await embedded.build(embedded.plan({"start": '#!/bin/bash\r\nexec "$@"\r\n'}))
    launcher = embedded.launcher()
    async with launcher.lifespan():
        with pytest.raises(UserError, match=r"^start has Windows line endings \(CRLF\)") as caught:
            await launcher.launch(image, request(), PLAN, embedded.log)
    assert caught.value.code == "bad-file"


async def test_an_image_with_a_server_is_served_by_its_own(embedded: Embedded) -> None:
    image = await embedded.build(embedded.plan({"requirements.txt": "jupyter-server\n"}))
    assert image.path is not None
    launcher = embedded.launcher(server_requirements=("ringbinder-no-such-package-4711",))
    async with launcher.lifespan():
        server = await launcher.launch(image, request(), PLAN, embedded.log)
        kernel = await open_kernel(server)
        assert await kernel.run("import sys; print(sys.prefix)") == (
            f"{Path(server.extra['work_folder']).parent / 'overlay'}\n"
        )
        await kernel.close()


async def test_the_shared_jupyterlab_is_without_what_slows_its_start(embedded: Embedded) -> None:
    launcher = embedded.launcher()
    async with launcher.lifespan():
        kernel = await open_kernel(await launched(embedded, launcher))
        assert await kernel.run("import IPython.core.completer as c; print(c.JEDI_INSTALLED)") == "True\n"
        await kernel.close()
    shared = launcher._shared.entry
    assert has_package(shared.env, "jsonschema")
    assert not has_package(shared.env, "rfc3987_syntax")
    assert not has_package(shared.env, "jedi")


async def test_a_jupyterlab_that_cannot_be_installed_is_reported(embedded: Embedded) -> None:
    image = await embedded.build(embedded.plan(FILES))
    launcher = embedded.launcher(server_requirements=("ringbinder-no-such-package-4711",))
    with pytest.raises(UserError, match=r"ringbinder-no-such-package-4711.*not found") as caught:
        await launcher.launch(image, request(), PLAN, embedded.log)
    assert caught.value.code == "server-not-installed"


async def no_session_left(embedded: Embedded, launcher: LocalLauncher, image: Image) -> None:
    assert await launcher.servers() == []
    async with FolderImage(embedded.registry._store.entry(image.name).folder).locked():
        """Nobody holds the image any more."""


async def test_a_server_that_dies_gives_its_last_words(embedded: Embedded) -> None:
    before = descendants()
    plan = embedded.plan({"start": "#!/bin/sh\nsleep 600 &\necho these are my last words >&2\nexit 9\n"})
    image = await embedded.build(plan)
    launcher = embedded.launcher()
    with pytest.raises(UserError) as caught:
        await launcher.launch(image, request(), PLAN, embedded.log)
    assert caught.value.code == "server-died"
    assert "exit code 9" in caught.value.message
    assert "these are my last words" in caught.value.message
    assert await embedded.left_over(before) == []
    await no_session_left(embedded, launcher, image)


async def test_a_server_that_never_answers_is_given_up(embedded: Embedded) -> None:
    before = descendants()
    image = await embedded.build(embedded.plan({"start": "#!/bin/sh\nsleep 600\n"}))
    launcher = embedded.launcher(start_timeout=1.0)
    with pytest.raises(UserError, match="within 1 seconds") as caught:
        await launcher.launch(image, request(), PLAN, embedded.log)
    assert caught.value.code == "server-slow"
    assert await embedded.left_over(before) == []
    await no_session_left(embedded, launcher, image)


async def test_a_cancelled_launch_leaves_nothing(embedded: Embedded) -> None:
    before = descendants()
    image = await embedded.build(embedded.plan({"start": "#!/bin/sh\ntouch started\nsleep 600\n"}))
    launcher = embedded.launcher()
    launching = asyncio.create_task(launcher.launch(image, request(), PLAN, embedded.log))
    deadline = time.monotonic() + PATIENCE
    while not list((embedded.state / "sessions").glob("*/box/work/started")):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    launching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launching
    assert await embedded.left_over(before) == []
    assert not list((embedded.state / "sessions").glob("*/box/work/started"))
    await no_session_left(embedded, launcher, image)


@pytest.fixture
def told(embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the launcher says of ends, by server."""
    ends: dict[str, str] = {}

    def hear(server: str, reason: str, seconds: float | None = None, told: str = "") -> None:
        ends[server] = told

    monkeypatch.setattr(embedded.context.servers, "stopped", hear)
    return ends


@pytest.mark.parametrize(
    ("limit", "reason", "words"),
    [
        ("idle_timeout", "idle", "no one used it for 1 hour (LocalLauncher.idle_timeout)"),
        ("max_age", "too old", "it ran for 1 hour, the longest that it may (LocalLauncher.max_age)"),
    ],
)
async def test_a_limit_ends_a_server(
    embedded: Embedded, clock: TurnedClock, told: dict[str, str], limit: str, reason: str, words: str
) -> None:
    launcher = embedded.launcher(**{limit: 3600.0})
    async with launcher.lifespan():
        server = await launched(embedded, launcher)
        (Path(server.extra["work_folder"]) / "keep me").touch()
        clock.turn(3600)
        await until_ended(embedded, launcher, server)
    assert summary(embedded.state, server.id)["reason"] == reason
    assert told[server.id] == words


BUSY = """
import os, time
open("busy", "w").close()
while os.path.exists("busy"):
    time.sleep(0.02)
"""


async def test_a_busy_kernel_is_not_idle(embedded: Embedded, clock: TurnedClock) -> None:
    launcher = embedded.launcher(idle_timeout=3600.0)
    async with launcher.lifespan(), asyncio.timeout(PATIENCE):
        server = await launched(embedded, launcher)
        busy = Path(server.extra["work_folder"]) / "busy"
        kernel = await open_kernel(server)
        running = asyncio.create_task(kernel.run(BUSY))
        while not busy.exists():
            await asyncio.sleep(0.02)
        running.cancel()
        await kernel.close()  # no page is connected any more
        clock.turn(3700)
        turned, watch = clock.time(), launcher._running[server.id].watch
        while watch._last_active < turned:
            await asyncio.sleep(0.02)
        assert [each.id for each in await launcher.servers()] == [server.id]
        busy.unlink()
        while await launcher.servers():
            clock.turn(60)
            await asyncio.sleep(0.02)


async def test_a_server_that_ends_by_itself_is_forgotten(embedded: Embedded, told: dict[str, str]) -> None:
    before = descendants()
    launcher = embedded.launcher()
    async with launcher.lifespan():
        server = await launched(embedded, launcher)
        async with api(server) as client, client.post("/api/shutdown") as answer:
            assert answer.status == 200
        await until_ended(embedded, launcher, server)
        assert await embedded.left_over(before) == []
    assert told[server.id] == "it was shut down from within"


async def test_a_server_that_is_killed_leaves_its_last_words(embedded: Embedded, told: dict[str, str]) -> None:
    launcher = embedded.launcher()
    async with launcher.lifespan():
        server = await launched(embedded, launcher)
        for process in processes_of(server):
            if "jupyterlab" in process.cmdline() and "_leash.py" not in " ".join(process.cmdline()):
                process.kill()
        await until_ended(embedded, launcher, server)
    assert "ended by SIGKILL, which is what the system does when memory runs out" in told[server.id]
    assert "Its last lines:" in told[server.id]
    assert server.token.reveal() not in told[server.id]


async def test_more_launches_than_places_wait_in_the_queue(embedded: Embedded) -> None:
    image = await embedded.build(embedded.plan(FILES))
    launcher = embedded.launcher(max_servers=1)
    tickets = [RecordingTicket("launch", request()) for _ in range(3)]

    async def launch(ticket: RecordingTicket) -> Server:
        place = await launcher.admit(ticket)
        assert place is not None
        async with place:
            return await launcher.launch(image, ticket.request, PLAN, embedded.log)

    async with launcher.lifespan():
        first = await launch(tickets[0])
        gone, last = (asyncio.create_task(launch(ticket)) for ticket in tickets[1:])
        await asyncio.sleep(0)
        [(reason, data)] = tickets[2].notices
        assert "LocalLauncher.max_servers" in reason
        assert data == {"queue": {"position": 2, "eta_s": None}}
        gone.cancel()  # its client leaves
        await asyncio.wait([gone])
        assert tickets[2].notices[1][1] == {"queue": {"position": 1, "eta_s": None}}
        assert list(await launcher.servers()) == [first]
        assert await launcher.stop(first)
        second = await last
        assert list(await launcher.servers()) == [second]
        assert tickets[0].notices == []


async def test_an_image_that_was_deleted_meanwhile(apart: Embedded) -> None:
    with pytest.raises(TransientError, match="removed"):
        await apart.launcher().launch(Image("gone:1", "folder"), request(), PLAN, RecordingLog())


async def test_sessions_of_a_killed_ringbinder_are_ended(apart: Embedded) -> None:
    root = apart.state / "sessions"
    for name, facts in {"half": None, "killed": {"image": "gone:1", "started": 1.0}}.items():
        (root / name / "box" / "work").mkdir(parents=True)
        (root / name / "box" / "home").mkdir()
        (root / name / "box" / "work" / "mine.txt").touch()
        if facts:
            (root / name / "session.json").write_text(json.dumps(facts))
    launcher = apart.launcher()
    async with launcher.lifespan():
        deadline = time.monotonic() + PATIENCE
        while (root / "half").exists() or "ended" not in summary(apart.state, "killed"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
    assert summary(apart.state, "killed")["changed"] == ["mine.txt"]
    assert summary(apart.state, "killed")["reason"] == "killed"
