"""The `local` launcher: a JupyterLab process of its own for every client."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

from attrs import define, evolve, field, frozen
from ringbinder import (
    ByteSize,
    Context,
    Duration,
    Image,
    ImageKind,
    Launcher,
    LaunchRequest,
    Log,
    Plan,
    Secret,
    Server,
    Ticket,
    TransientError,
    UserError,
    Work,
    option,
)
from ringbinder.concurrency import WaitingLine, queue_notice
from ringbinder.folder_image import FolderImage, remove_cleared
from ringbinder.untrusted import UntrustedError
from ringbinder_recipe import scripts
from ringbinder_recipe.uv import Uv

from . import jupyter, memory, work
from .installed import has_server
from .jupyter import SharedServer
from .sandbox import Mode, Sandbox, interpreters, was_sandboxed
from .sessions import Session, all_sessions, image_of, summary
from .shared import environments, settle
from .store import images
from .watch import Ending, Watch

_STOP_GRACE: Final = 5.0


@frozen
class LocalLauncherOptions:
    idle_timeout: Duration = option(
        3600.0, help="A notebook without activity, open pages and busy kernels for so long is stopped; 0: never."
    )
    max_age: Duration = option(86400.0, help="A notebook is stopped after so long, no matter what it does; 0: never.")
    max_servers: int = option(32, help="How many notebooks may run at once; more wait in line. 0: no limit.")
    memory_limit: ByteSize = option(
        0,
        help="Memory of a notebook, such as 4G: of all its processes together where a control group can be made, "
        "else address space of each of them; 0: no limit.",
    )
    disk_limit: ByteSize = option(
        20 * 1024**3,
        help="How much disk the files of a notebook may take, its copy of the repository among them, before it is "
        "stopped; they are kept. 0: no limit.",
    )
    sandbox: Mode = option(
        "off",
        help="`auto`: notebooks run in bubblewrap where it is installed and works, without the home folder and "
        "with the rest of the machine read-only; `required`: else they do not run.",
    )
    sandbox_network: bool = option(
        True,
        help="Notebooks in the sandbox reach the network, this machine's loopback among it; false: none of it, "
        "only their own page reaches them.",
    )
    start_timeout: Duration = option(120.0, help="How long JupyterLab may take until it answers.")
    server_requirements: tuple[str, ...] = option(
        (),
        help="What the shared JupyterLab is installed from, such as `jupyterlab>=4.4,<5`; empty: the list that "
        "comes with Ringbinder, where each package has its version and its hashes. Yours is not locked.",
    )
    uv_cache: str = option("", help="Folder of uv's cache; empty: in Ringbinder's cache folder.")
    pass_environment: tuple[str, ...] = option((), help="Names of environment variables that notebooks may see.")


@define(eq=False)
class _Running:
    server: Server
    session: Session
    image: FolderImage
    watch: Watch
    group: memory.Group | None
    holds: AsyncExitStack
    """The shared lock on its image, and its place among `max_servers`."""
    ended: asyncio.Task[None] = field(init=False)
    settling: asyncio.Task[None] | None = field(default=None, init=False)
    """Completes the environment that its image shares."""


class LocalLauncher(Launcher[LocalLauncherOptions]):
    """Starts JupyterLab in a copy of the repository, with an environment of its own over the image's."""

    Config = LocalLauncherOptions
    sections = ("LocalLauncher",)
    runs: ClassVar[ImageKind] = "folder"

    def __init__(self, config: LocalLauncherOptions, context: Context) -> None:
        super().__init__(config, context)
        apart = config.sandbox == "required"
        uv = Uv.of(context.paths, config.uv_cache, config.pass_environment, apart=apart)
        self._shared = SharedServer(config.server_requirements, uv, context, apart)
        self._running: dict[str, _Running] = {}
        self._sandbox = Sandbox(config.sandbox, context.paths, "LocalLauncher.sandbox", config.sandbox_network)
        self._places = WaitingLine(config.max_servers)
        self._orphans: asyncio.Task[None] | None = None

    async def admit(self, ticket: Ticket) -> AbstractAsyncContextManager[None] | None:
        """Begins to prepare JupyterLab before a build, to have the two side by side; queues launches for a place."""
        if ticket.stage == "build":
            self._shared.prepare()
        if ticket.stage != "launch" or not self.config.max_servers:
            return None

        def notify(before: int) -> None:
            text, queue = queue_notice(before)
            ticket.notify(f"{text} (LocalLauncher.max_servers: {self.config.max_servers})", queue=queue)

        return self._places.place(notify)

    async def launch(self, image: Image, request: LaunchRequest, plan: Plan, log: Log) -> Server:
        async with AsyncExitStack() as holds:
            running = await self._start(image, request, log, holds)
        return running.server

    async def stop(self, server: Server) -> bool:
        if running := self._running.get(server.id):
            running.watch.stop.set()
            await asyncio.shield(running.ended)
            return True
        return bool(summary(self.context.paths.state, server.id).get("ended"))

    async def servers(self) -> Sequence[Server]:
        return [self._as_it_is(running) for running in self._running.values()]

    async def work(self) -> Sequence[Work]:
        # What a crash has left counts as ended, not as running.
        if self._orphans is not None:
            await asyncio.wait({self._orphans})
        return await asyncio.to_thread(work.all_work, self.context.paths.state)

    async def keep_work(self, session: str) -> bool:
        state = self.context.paths.state
        found = work.find(state, session)
        if found is None or summary(state, session).get("ended"):
            return False
        found.kept_awake.touch()  # a file, since the session may be another process's
        now = self.context.clock.time()
        os.utime(found.kept_awake, (now, now))
        return True

    async def export_work(self, session: str, into: Path) -> bool:
        state = self.context.paths.state
        found = work.find(state, session)
        if found is not None:
            await work.export(state, found, into)
        return found is not None

    async def discard_work(self, session: str) -> bool:
        found = work.find(self.context.paths.state, session)
        if found is None:
            return False
        try:
            async with FolderImage(found.folder).locked():
                await asyncio.to_thread(found.remove)
        except BlockingIOError:
            raise UserError("session-runs", f"The session {session} runs; stop its notebook first.") from None
        return True

    def _as_it_is(self, running: _Running) -> Server:
        """With ``stops_at`` in `extra`, Unix seconds, when it will soon be stopped since it is idle."""
        stops_at = running.watch.stops_at
        if stops_at is None:
            return running.server
        return evolve(running.server, extra={**running.server.extra, "stops_at": stops_at})

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self._orphans = self.context.tasks.start(self._end_orphans(), "end sessions of an earlier run")
        try:
            yield
        finally:
            await asyncio.gather(*(self.stop(server) for server in await self.servers()))

    async def _start(self, image: Image, request: LaunchRequest, log: Log, holds: AsyncExitStack) -> _Running:
        state = self.context.paths.state
        entry = images(state).entry(image.name)
        await holds.enter_async_context(entry.locked(shared=True, on_wait=lambda: None))
        facts = entry.read()
        if facts is None:
            raise TransientError(f"The image {image.name} was removed just now")
        session_id = secrets.token_hex(8)
        session = Session(session_id, state / "sessions" / session_id)
        lock = FolderImage(session.folder)
        limit = self.config.memory_limit
        group = memory.made(session_id, limit) if limit else None
        await holds.enter_async_context(lock.locked())
        try:
            # A server extension of the image works only in the image's own server.
            own = await asyncio.to_thread(has_server, entry.env)
            server = entry if own else await self._shared.get(log)
            await session.copy(entry)
            await asyncio.to_thread(session.overlay.make, entry, session.work, session.home)
            session.tell_stop(None)
            jupyter.write_settings(session.settings)
            # It reaches the disk later: that would wait for all that the image's build has written.
            session.write(
                sync=False, image=image.name, repo_url=facts.get("repo_url", ""),
                ref=str(facts.get("persistent_request", "")).rpartition("/")[2], started=time.time(),
            )  # fmt: skip
            token = Secret(secrets.token_urlsafe(32))
            start = str(facts.get("start") or "")
            env = self._env(session, entry, server, facts, request)
            wrapper = scripts.command(session.work, start) if start else []
            wrapper = await self._confined(session, (entry, server), group, wrapper, env, log)
            if not was_sandboxed(facts) and not await self._sandbox.lack():
                log.line(
                    "Its image was built without a sandbox (LocalBuilder.sandbox): what that build left runs in it.\n"
                )

            serving = jupyter.Start(
                server=server,
                wrapper=wrapper,
                cwd=session.work.place,
                env=env,
                runtime=session.runtime,
                settings=session.settings,
                token=token,
                patience=self.config.start_timeout,
                network=self._sandbox.network or bool(await self._sandbox.lack()),
            )
            try:
                process = await serving.run()
            except UserError as error:
                if server is entry or error.code != "server-died" or not await self._shared.renew(log):
                    raise
                process = await serving.run()
        except BaseException as error:
            await asyncio.shield(asyncio.to_thread(session.remove))
            if group:
                group.remove()
            if isinstance(error, UntrustedError):
                raise UserError(
                    "bad-image",
                    f"The image cannot be used, since code of the repository has changed it: {error}. Remove it with "
                    "`ringbinder images rm`, and launch again once postBuild leaves that alone.",
                ) from error
            raise
        if server is not entry:
            self._shared.settle()
        holds.enter_context(self._places.taken())
        extra = {"work_folder": str(session.work.place)}
        running = _Running(
            Server(session_id, process.url, token, image.name, extra),
            session, entry, Watch(
                process, session, self.config.idle_timeout, self.config.max_age, self.config.disk_limit,
                self.context.clock,
            ),
            group, holds.pop_all(),
        )  # fmt: skip
        self._running[session_id] = running
        if (environment := entry.environment) is not None and not environment.is_settled():
            settling = settle(environment, self._sandbox)
            running.settling = self.context.tasks.start(settling, f"compile the environment of {image.name}")
        self.context.tasks.start(asyncio.to_thread(session.sync), f"bring the record of {session_id} to the disk")
        running.ended = self.context.tasks.start(self._tend(running), f"notebook {session_id}")
        return running

    async def _confined(
        self, session: Session, seen: tuple[FolderImage, ...], group: memory.Group | None, command: list[str],
        env: dict[str, str], log: Log,
    ) -> list[str]:  # fmt: skip
        """`command` behind what keeps it within its limits and its sandbox; `log` gets a line about it."""
        limit = self.config.memory_limit
        if group:
            log.line(f"All processes of the notebook together may take {limit} bytes of memory (control group).\n")
        elif limit:
            log.line(
                f"Each process of the notebook may take {limit} bytes of address space; a limit for all together "
                "needs a control group, which cannot be made here.\n"
            )
            command = memory.each(limit) + command
        if lack := await self._sandbox.lack():
            log.line(f"The notebook runs without a sandbox, with the rights of Ringbinder: {lack}.\n")
        else:
            network = "but the network" if self._sandbox.network else "no network"
            log.line(
                "The notebook runs in a sandbox (bubblewrap): no home folder, only its own files to write, "
                f"{network}.\n"
            )
            readable = [path for entry in seen for path in (entry.box.root, entry.env.root, *interpreters(entry))]
            readable += session.readable
            command = self._sandbox.wrapper(session.box.root, readable, session.work.place, env) + command
        return (group.wrapper() if group else []) + command

    def _env(
        self, session: Session, image: FolderImage, server: FolderImage, facts: dict[str, Any], request: LaunchRequest
    ) -> dict[str, str]:
        overlay = session.overlay
        home, env = session.home.place, image.env.place
        path = (overlay.folder.place / "bin", home / ".local/bin", env / "bin", server.env.place / "bin")
        data = (overlay.jupyter, overlay.folder.place / "share/jupyter", env / "share/jupyter")
        return scripts.environment(path, self.config.pass_environment) | {
            "HOME": str(home),
            "SHELL": shutil.which("bash") or "/bin/sh",
            "REPO_DIR": str(session.work.place),
            "VIRTUAL_ENV": str(overlay.folder.place),
            **({"CONDA_PREFIX": str(env)} if image.is_conda else {}),
            "JUPYTER_PATH": ":".join(map(str, data)),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "BINDER_LAUNCH_HOST": request.launch_host,
            "BINDER_REQUEST": request.binder_request,
            "BINDER_PERSISTENT_REQUEST": str(facts.get("persistent_request", "")),
            "BINDER_REPO_URL": str(facts.get("repo_url", "")),
            "BINDER_REF_URL": str(facts.get("ref_url", "")),
        }

    async def _tend(self, running: _Running) -> None:
        """Until the end of one server, for any reason."""
        ending, changed = Ending("cancelled"), list[str]()
        server, watch = running.server, running.watch
        try:
            ending = await watch.until_end()
        finally:
            try:
                await watch.jupyter.command.stop(_STOP_GRACE)
                watch.jupyter.free_port()
                if running.group:
                    if ending.reason == "exited" and running.group.kills():
                        ending = evolve(ending, why="it took more memory than LocalLauncher.memory_limit allows")
                    running.group.remove()
                changed = await asyncio.to_thread(running.session.end, running.image, ending.reason)
            finally:
                seconds = self.context.clock.time() - watch.started
                self.context.servers.stopped(server.id, ending.reason, seconds, ending.why)
                del self._running[server.id]
                await running.holds.aclose()
            await self._release(running)
            kept = {"kept": str(running.session.work.place), "changed": len(changed)} if changed else {}
            self.context.log.info("notebook ended", id=server.id, reason=ending.reason, **kept)

    async def _release(self, running: _Running) -> None:
        """Ends the use of a shared environment, and removes it if it was damaged, unless other notebooks run in it."""
        if (environment := running.image.environment) is None:
            return
        if running.settling is not None:
            running.settling.cancel()
            await asyncio.wait({running.settling})
        if damage := await environments(self.context.paths.state).remove_damaged(environment):
            self.context.log.warning(
                "shared environment damaged, its images are built again", folder=str(environment.folder), damage=damage
            )

    async def _end_orphans(self) -> None:
        """Ends the sessions of a Ringbinder that was killed, whose processes went with it and folders not."""
        state = self.context.paths.state
        await asyncio.to_thread(remove_cleared, state / "sessions")
        for session in await asyncio.to_thread(all_sessions, state):
            try:
                await self._end_orphan(session, await asyncio.to_thread(summary, state, session.id))
            except BlockingIOError:
                continue  # another process runs it
            except Exception as error:  # one session's trouble is not the others'
                self.context.log.warning("session not ended, its files are kept", id=session.id, error=str(error))

    async def _end_orphan(self, session: Session, facts: dict[str, Any]) -> None:
        if facts.get("ended") and not facts.get("damaged"):
            return
        async with FolderImage(session.folder).locked():
            await FolderImage(session.folder).end_leftovers()
            memory.remove(session.id)
            if facts.get("damaged"):
                self.context.log.warning(
                    "record of a session is damaged, its files are kept", id=session.id, folder=str(session.folder)
                )
            elif facts.get("started") is not None:
                image = image_of(self.context.paths.state, facts)
                await asyncio.to_thread(session.end, image, "killed")
            else:
                # It was killed while the repository was copied: no one has worked in it.
                await asyncio.to_thread(session.remove)
