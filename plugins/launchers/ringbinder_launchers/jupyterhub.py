"""Launcher `jupyterhub`: servers that a JupyterHub starts, for temporary users or for its own."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any, ClassVar, Final

from ringbinder import (
    ConfigError,
    Context,
    Finding,
    Health,
    Image,
    ImageKind,
    Launcher,
    LaunchRequest,
    Log,
    Plan,
    Redirect,
    Refused,
    RingbinderError,
    Secret,
    Server,
    TransientError,
    User,
    UserError,
    load_named,
)

from . import _doctor
from ._api import USER, HubApi, user_path
from ._hook import Hook, call_hook
from ._login import HubLogin
from ._names import is_unique, unique_name
from ._options import LauncherOptions
from ._places import Place
from ._records import Records
from ._spawn import NotStarted, Spawn, remove
from ._watch import Watch

_HEALTH_SECONDS: Final = 3.0
_SHOWN_UNDONE: Final = 10.0
"""Seconds that a failed launch waits until what it had begun is gone; after that it goes on in the background."""
_REPORTS: Final = 3
"""Reports of a launch under way within `resume_time`."""
_UNDO_PAUSES: Final = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class JupyterHubLauncher(Launcher[LauncherOptions]):
    """Speaks JupyterHub's REST API as one of its services.

    Every launch has a temporary user of its own, or with `auth_enabled` is a server of who has logged in.
    Everything that fails or is left before it is ready is taken away at the hub: the server and the temporary user.
    """

    Config = LauncherOptions
    sections = ("Launcher",)
    runs: ClassVar[ImageKind] = "oci"

    def __init__(self, config: LauncherOptions, context: Context) -> None:
        super().__init__(config, context)
        name = config.pre_launch_hook
        self._hook: Hook | None = load_named("Launcher.pre_launch_hook", name) if name else None
        self._launching: dict[str, Place] = {}
        self._undoing: dict[str, asyncio.Task[None]] = {}
        self._records = Records()
        self._watch = Watch(context, config.watch_interval)

    @cached_property
    def api(self) -> HubApi:
        """The hub's API."""
        config, context = self.config, self.context
        return HubApi(
            context.http, context.clock, config.api_url, config.hub_api_token,
            config.retries, config.retry_delay,
        )  # fmt: skip

    @cached_property
    def login(self) -> HubLogin:
        """Who somebody is at the hub."""
        return HubLogin(self.config, self.api)

    async def authenticate(self, headers: Mapping[str, str], target: str) -> User | Redirect | None:
        return await self.login.who(headers, target) if self.config.auth_enabled else None

    async def log_in(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Redirect | None:
        return await self.login.back(headers, query) if self.config.auth_enabled else None

    async def log_out(self, headers: Mapping[str, str]) -> Redirect | None:
        return self.login.forget(headers) if self.config.auth_enabled else None

    async def get_user_data(self, username: str) -> Mapping[str, Any]:
        """The hub's model of a user, for a `pre_launch_hook`, under the name that it has in BinderHub."""
        reply = await self.api.ask("GET", f"users/{user_path(username)}")
        if not reply.ok:
            raise reply.refusal("read a user")
        return reply.shaped(USER, "read a user")

    async def launch(self, image: Image, request: LaunchRequest, plan: Plan, log: Log) -> Server:
        if self.config.missing:
            message = f"Nothing can be launched here yet: {self.config.missing}."
            raise UserError("hub-not-configured", message)
        place = self._place(request, plan)
        token = Secret(base64.urlsafe_b64encode(secrets.token_bytes(24)).decode())
        limit = self.config.launch_timeout
        time_limit = asyncio.timeout(limit or None)
        self._launching[place.id] = place
        try:
            async with time_limit:
                return await self._launch(place, image, request, plan, token, log)
        except TimeoutError:
            if not time_limit.expired():
                raise
            raise TransientError(f"The server was not ready within {limit:g} seconds") from None
        finally:
            self._launching.pop(place.id, None)

    def _place(self, request: LaunchRequest, plan: Plan) -> Place:
        name = unique_name(plan.repo.url, request.session)
        if not self.config.auth_enabled:
            return Place(name)
        if request.user is None:
            message = "Servers are for users of the JupyterHub here (BinderHub.auth_enabled)"
            raise Refused(f"{message}: launch at Ringbinder's page, or with a user's token.", status=403)
        if request.user.service:
            message = f"{request.user.name} is a service of the JupyterHub, which has no servers"
            raise Refused(f"{message}: it can build (build_only), and a user can launch.", status=403)
        return Place(request.user.name, name if self.config.allow_named_servers else "", temporary=False)

    async def _launch(
        self, place: Place, image: Image, request: LaunchRequest, plan: Plan, token: Secret, log: Log
    ) -> Server:
        attempts = self.config.spawn_attempts
        for attempt in range(1, attempts + 1):
            try:
                return await self._attempt(place, image, request, plan, token, log)
            except NotStarted as error:
                if attempt == attempts:
                    raise UserError("launch-failed", f"JupyterHub could not start the server: {error}") from None
                log.line(f"Launch attempt {attempt} failed ({error}), retrying...\n")
                await self.context.clock.sleep(self.api.retry.pause(attempt - 1))
        raise AssertionError("there is at least one attempt")

    async def _attempt(
        self, place: Place, image: Image, request: LaunchRequest, plan: Plan, token: Secret, log: Log
    ) -> Server:
        if undoing := self._undoing.get(place.id):
            await asyncio.wait({undoing})
        spawn: Spawn | None = None
        try:
            found: Secret | None = None
            if place.temporary:
                found = await self._make_user(place, image)
            else:
                await self._see_room(place)
            token = found or token
            if self._hook is not None:
                await call_hook(
                    self._hook, launcher=self, image=image.name, username=place.user,
                    server_name=place.server, repo_url=plan.repo.url,
                )  # fmt: skip
            spawn = Spawn(self.api, place, _user_options(image, request, plan, token), log)
            reason = await spawn.start(may_exist=found is not None)
            # Only a hub with a domain for each user says more than a path.
            url = reason if reason.startswith(("http://", "https://")) else self.config.hub_url + place.path
            await spawn.verify(self.config.local_url + place.path, token if place.temporary else None)
            if place.temporary:
                await self._records.end(self.api, place)
            self._watch.add(place, token)
        except BaseException:
            if place.temporary or (spawn is not None and spawn.begun):
                await self._undo(place, token)
            raise
        # Of who has logged in, the hub opens the server.
        return Server(place.id, url, token if place.temporary else Secret(""), image.name)

    async def _make_user(self, place: Place, image: Image) -> Secret | None:
        """Makes the temporary user; gives the token of its server if this launch was made before."""
        if await self._records.begin(self.api, place):
            return None
        options = place.model(await self.get_user_data(place.user)).get("user_options") or {}
        if options.get("image") == image.name and isinstance(token := options.get("token"), str):
            return Secret(token)
        return None

    async def _see_room(self, place: Place) -> None:
        """Raises Refused if the user has as many servers as they may."""
        servers = (await self.get_user_data(place.user)).get("servers") or {}
        if not place.server:
            if "" in servers:
                message = f"User {place.user} already has a running server."
                raise Refused(f"{message} Stop it at the JupyterHub, then try again.", status=409)
            return
        limit = self.config.named_server_limit_per_user
        if limit and sum(bool(name) for name in servers) >= limit:
            message = f"User {place.user} already has the maximum of {limit} named servers."
            raise Refused(f"{message} Delete one at the JupyterHub, then try again.", status=409)

    async def _undo(self, place: Place, token: Secret) -> None:
        """Takes away what a launch has begun; what takes long goes on when this has returned."""
        # Not awaited itself: who is cancelled a second time must not cancel it.
        await asyncio.wait({self._begin_to_undo(place, token)}, timeout=_SHOWN_UNDONE)

    def _begin_to_undo(self, place: Place, token: Secret) -> asyncio.Task[None]:
        if (task := self._undoing.get(place.id)) is None:
            task = self.context.tasks.start(self._undo_until_done(place, token), f"take away {place.id}")
            self._undoing[place.id] = task
            task.add_done_callback(lambda _: self._undoing.pop(place.id, None))
        return task

    async def _undo_until_done(self, place: Place, token: Secret) -> None:
        log = self.context.log.bind(server=place.id)
        for pause in (*_UNDO_PAUSES, None):
            try:
                if place.temporary or await self._is_ours(place, token):
                    await remove(self.api, place)
                if place.temporary:
                    await self._records.end(self.api, place)
            except (RingbinderError, TimeoutError) as error:
                if pause is None or isinstance(error, ConfigError):
                    log.exception("a server or user of a failed launch is left at JupyterHub")
                    return
                why = str(error) or "it stops too slowly"
                log.warning("a failed launch is not yet taken away", error=why, again_in=pause)
                await self.context.clock.sleep(pause)
            else:
                return

    async def _is_ours(self, place: Place, token: Secret) -> bool:
        """Whether the server at `place` is the one that was started with `token`: people start their own, too."""
        options = place.model(await self.get_user_data(place.user)).get("user_options") or {}
        return bool(options.get("token") == token.reveal())

    async def _report_launches(self) -> None:
        for place in [*self._launching.values()]:
            if place.temporary:
                await self._records.report(self.api, place)

    async def _take_abandoned(self) -> None:
        for place in await self._records.abandoned(self.api):
            if place.id not in self._launching:
                self.context.log.info("taking away a launch that was killed", server=place.id)
                self._begin_to_undo(place, Secret(""))

    async def stop(self, server: Server) -> bool:
        user, _, name = server.id.partition("/")
        # Servers of people may be left of a time when they logged in.
        temporary = not self.config.auth_enabled and not name and is_unique(user)
        launched, known = self._watch.drop(server.id), False
        try:
            known = await remove(self.api, Place(user, name, temporary))
        finally:
            if not known:
                self._watch.keep(server.id, launched)
        return known

    async def servers(self) -> Sequence[Server]:
        """Those of every replica; not those that this one is launching now."""
        if self.config.missing:
            return ()
        found: list[Server] = []
        for user in await self._watch.users(self.api):
            for name, model in (user.get("servers") or {}).items():
                place, options = Place(user["name"], name), model.get("user_options") or {}
                ours = isinstance(options.get("image"), str) and isinstance(options.get("token"), str)
                if not ours or model.get("pending") == "stop" or place.id in self._launching:
                    continue
                url = self.config.hub_url + place.path
                found.append(Server(place.id, url, Secret(options["token"]), options["image"]))
        return found

    async def health(self) -> Health:
        """Under the name that the line has in BinderHub's `/health`."""
        why = self.config.missing
        if not why:
            try:
                reply = await self.api.ask("GET", "health", tries=1, seconds=_HEALTH_SECONDS)
            except RingbinderError as error:
                why = str(error)
            else:
                why = "" if reply.ok else reply.message
        return Health("JupyterHub API", ok=not why, detail={"message": why} if why else {})

    async def doctor(self) -> Sequence[Finding]:
        return await _doctor.examine(self.config, self.api)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """The hub need not be there at the start; at the end, what is being taken away has a little time."""
        every, seconds = self.context.tasks.every, self.config.resume_time
        tasks = [self.context.tasks.start(self._watch.run(self.api), "watch servers at JupyterHub")]
        if not self.config.auth_enabled and not self.config.missing:
            report, search = "the report of launches", "the search for killed launches"
            tasks.append(every(seconds / _REPORTS, self._report_launches, report, "replicas may end them"))
            tasks.append(every(seconds, self._take_abandoned, search, "they stay at the JupyterHub"))
        yield
        for task in tasks:
            task.cancel()
        if self._undoing:
            await asyncio.wait(set(self._undoing.values()), timeout=_SHOWN_UNDONE)


def _user_options(image: Image, request: LaunchRequest, plan: Plan, token: Secret) -> dict[str, str]:
    """What the hub's spawner gets, under BinderHub's names (protocol reference, 6.1)."""
    return {
        "image": image.name,
        "repo_url": plan.repo.url,
        "token": token.reveal(),
        "binder_ref_url": plan.repo.ref_url,
        "binder_launch_host": request.launch_host,
        "binder_request": request.binder_request,
        "binder_persistent_request": request.persistent(plan.repo),
        "binder_client_ip": request.client.ip,
    }
