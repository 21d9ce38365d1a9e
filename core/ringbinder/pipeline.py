"""The five stages in order: resolve -> check -> build -> push -> launch."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from ipaddress import ip_address
from typing import Any, Final

import attrs
from attrs import define, field
from structlog.contextvars import bind_contextvars, get_contextvars

from . import naming
from .errors import PluginError, Refused, UserError
from .events import Event, Log
from .explain import Explainer
from .model import Client, Image, LaunchRequest, Plan, ProviderInfo, Repo, Server, Stage, Target
from .plugins import Plugins
from .runs import LogWriter, Run, Runs
from .secret import begin_launch, redact, redacted
from .services import Logger, Services
from .sessions import Session
from .silence import Silence, speaker
from .specs import SpecForms
from .stage_events import StageEvents
from .waiting_line import WaitingLine

Tell = Callable[[Event], None]

_ANSWERS: Final[Mapping[str, type]] = {
    "resolve": Repo, "check": Image, "target": Target, "build": Image, "push": Image, "launch": Server,
}  # fmt: skip
"""What the hook of each stage gives."""


# What each session says: one object for all.
_BUILD_TO_START: Final = Event("waiting", "Waiting for build to start...\n")
_OF_THIS_MACHINE: Final = frozenset({"work_folder"})
"""Keys of `Server.extra` that name its folders."""
_LAUNCHING: Final = Event("launching", "Launching server...\n")


@define
class Ticket:
    """See `hookspecs.Ticket`."""

    stage: Stage
    request: LaunchRequest
    tell: Tell
    repo: Repo | None = None
    plan: Plan | None = None
    admitted: bool = False

    def say(self, message: str, **data: Any) -> None:
        if not self.admitted:  # the stage speaks now
            self.tell(_waiting(message, data))


@define
class Pipeline:
    """Takes sessions (`serve`) and runs (`build`) through the stages.

    `runs` is set by `app`, which ties the two.
    """

    plugins: Plugins
    services: Services
    explainer: Explainer
    image_prefix: str = ""
    builds_at_once: int = 32
    launch_version: int = 6
    runs: Runs = field(init=False)
    launch_seconds: deque[float] = field(factory=lambda: deque(maxlen=50), init=False)
    """How long the last launches took that succeeded, in this process."""
    told: StageEvents = field(init=False)
    _line: WaitingLine = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._line = WaitingLine(self.builds_at_once)
        self.told = StageEvents(self.services.events, self.info, self.launch_version)

    async def serve(self, session: Session) -> None:
        """One client's launch, from its request to `ready` or `failed`."""
        stage: Stage = "resolve"
        plan: Plan | None = None
        request, say = session.request, session.say
        started, done = time.monotonic(), False
        bind_contextvars(session=session.name)
        speaker.set(lambda text: say(Event("launching" if stage == "launch" else "waiting", text)))
        self.told.requested(request)
        try:
            repo = await self.resolve(request, say)
            for notice in repo.notices:
                say(_waiting(notice))
            stage, plan = "check", self.plan(repo)
            image = await self._check(plan, fresh=False)
            stage = "check" if request.build_only else "launch"
            ticket = Ticket("launch", request, say, repo, plan)
            async with nullcontext() if request.build_only else await self._admitted(ticket):
                done_with = "Found built image" if image is not None else "Image built"
                if image is None:
                    stage = "build"
                    image = await self._follow_build(session, plan)
                    if image is None:
                        return
                elif not request.build_only:
                    say(Event("built", "Found built image, launching...\n", {"imageName": image.name}))
                if request.build_only:
                    say(Event("ready", f"Done! {done_with}\n", {"imageName": image.name}))
                    done = True
                    return
                stage = "launch"
                server = await self._launch(session, plan, image)
            say(_ready(request, repo, image, server, public=self.services.public))
            self.told.launched(request, repo)
            done = True
        except Exception as error:
            if isinstance(error, Refused):
                self.told.refused(request, stage, error, plan.repo if plan else None)
            say(session.cancel_event or await self.explainer.event(stage, error, plan))
        finally:
            if not done:
                seconds, cancelled = time.monotonic() - started, session.cancel_event is not None
                found = plan.repo if plan else None
                self.told.launch_failed(request, stage, found, seconds, session.terminal, cancelled=cancelled)

    async def resolve(self, request: LaunchRequest, tell: Tell) -> Repo:
        """Asks the provider named in the link.

        Raises `UserError` (``provider-unknown``, ``ref-not-found``, ...).
        """
        if request.provider not in self.plugins.providers:
            raise UserError("provider-unknown", f"No provider found for prefix {request.provider}")
        begin_launch()
        async with await self._admitted(Ticket("resolve", request, tell)):
            started = time.monotonic()
            try:
                with self.services.metrics.stage("resolve"):
                    repo = await self._resolve(request)
            except Exception as error:
                if not isinstance(error, Refused):
                    self.told.resolved(request, time.monotonic() - started, error)
                raise
        self.told.resolved(request, time.monotonic() - started, repo)
        return repo

    async def _resolve(self, request: LaunchRequest) -> Repo:
        chosen = f"provider:{request.provider}"
        options, forms = self.plugins.spec_options(request.provider), SpecForms.of(request.spec)
        try:
            options.permit(forms)
            return options.applied(await self._resolved(request, chosen), forms)
        except Refused as error:
            error.policy = error.policy or chosen
            raise

    async def _resolved(self, request: LaunchRequest, chosen: str) -> Repo:
        with Silence(lambda: f"{self.info(request.provider).display_name} has not answered"):
            repo: Repo | None = _right(
                await self.plugins.hooks.first("resolve", chosen=chosen, request=request), chosen, "resolve"
            )
        if repo is None:
            link = f"{request.provider}:{request.spec}"
            advice = "Double check your URL and that your repo is public."
            raise UserError("ref-not-found", f"Could not resolve ref for {link}. {advice}")
        return attrs.evolve(repo, provider=request.provider)

    def info(self, provider: str) -> ProviderInfo:
        """What a provider says of itself."""
        info: ProviderInfo = self.plugins.hooks.ask("describe", chosen=f"provider:{provider}")
        return info

    def plan(self, repo: Repo) -> Plan:
        """What to look for in the registry, and to build if it is not there."""
        image = naming.image_name(self.image_prefix, repo.slug, repo.ref)
        return Plan(repo, image, naming.build_name(repo.slug, repo.ref))

    @property
    def builds_full(self) -> bool:
        """A build that begins now must wait for another one to end."""
        return self._line.full

    async def _follow_build(self, session: Session, plan: Plan) -> Image | None:
        """The built image; None if the build failed: that event is then the session's last."""
        session.say(_BUILD_TO_START)
        run = self.runs.join(plan, session.request)
        if session.request.user is not None:
            run.users.add(session.request.user.key)
        session.follow(run)
        with self.runs.following(run):
            if not run.task.done():
                await run.over.wait()
        return run.image

    async def build(self, run: Run) -> Image:
        """What a run does: build, push, then look whether the registry really has it."""
        bind_contextvars(run=run.name)
        speaker.set(lambda text: run.append(Event("waiting", text)))
        try:
            return await self._build(run)
        except Refused as error:
            self.told.refused(run.request, "build", error, run.plan.repo)
            raise

    async def _build(self, run: Run) -> Image:
        plan, metrics = run.plan, self.services.metrics

        def tell(before: int) -> None:
            run.append(Event("waiting", f"Waiting for another build to end: {before} before this one\n"))

        ticket = Ticket("build", run.request, run.append, plan.repo, plan)
        async with await self._admitted(ticket), AsyncExitStack() as slot:
            with metrics.builds_waiting.track_inprogress():
                await slot.enter_async_context(self._line.place(tell))
            # Another session's build may have ended between that session's check and now.
            if image := await self._check(plan, fresh=True):
                return image
            run.building_since = time.monotonic()
            self.told.build_started(run, waited=run.building_since - run.started)
            with metrics.building(plan.repo.provider, plan.repo.url):
                return await self._build_and_push(run)

    async def _build_and_push(self, run: Run) -> Image:
        plan = run.plan
        with Silence("The registry has not answered"):
            target = await self._must("registry", "target", plan=plan)
        building = LogWriter(run.append, "building", self._log_of("builder"))
        pushing = LogWriter(run.append, "pushing", self._log_of("registry"))
        built: Image = await self._must("builder", "build", plan=plan, target=target, log=building)
        if not built.pushed:
            await self._push(run, built, target, pushing)
        image = await self._check(plan, fresh=True)
        if image is None:
            told = f"{plan.image} is not there after a build and a push"
            raise PluginError(self.plugins.chosen["registry"], told, "check")
        return image

    async def _push(self, run: Run, image: Image, target: Target, log: Log) -> None:
        started, success = time.monotonic(), False
        try:
            await self._must("registry", "push", image=image, target=target, log=log)
            success = True
        finally:
            self.told.pushed(run, self.plugins.registry, time.monotonic() - started, success=success)

    async def _launch(self, session: Session, plan: Plan, image: Image) -> Server:
        request = session.request
        started = time.monotonic()
        session.say(_LAUNCHING)
        log = LogWriter(session.say, "launching", self._log_of("launcher"))
        with self.services.metrics.launching(request.provider, plan.repo.url):
            server: Server = await self._must(
                "launcher", "launch", image=image, request=request, plan=plan, log=log
            )
        session.server = server  # at once: whatever goes wrong from here on, it is taken down
        self.launch_seconds.append(time.monotonic() - started)
        self.told.server_started(server, request, plan.repo)
        return server

    def _log_of(self, kind: str) -> Logger:
        """The log for a plugin's output; its lines may come from threads, which know no context."""
        return self.services.log.bind(plugin=self.plugins.chosen[kind], **get_contextvars())

    async def _check(self, plan: Plan, fresh: bool) -> Image | None:
        with Silence("The registry has not answered"):
            image: Image | None = await self._ask("registry", "check", plan=plan, fresh=fresh)
        return image

    async def _ask(self, kind: str, hook: str, **arguments: Any) -> Any:
        """One stage's hook, answered by the general plugins or the chosen plugin of `kind`."""
        with self.services.metrics.stage(hook):
            chosen = self.plugins.chosen[kind]
            return _right(await self.plugins.hooks.first(hook, chosen=chosen, **arguments), chosen, hook)

    async def _must(self, kind: str, hook: str, **arguments: Any) -> Any:
        """`_ask`, where None breaks the contract."""
        answer = await self._ask(kind, hook, **arguments)
        if answer is None:
            raise PluginError(self.plugins.chosen[kind], "it gave None, and nobody else an answer", hook)
        return answer

    async def _admitted(self, ticket: Ticket) -> AbstractAsyncContextManager[None]:
        """Past every plugin's `admit`; what is given holds their slots until left."""
        given = await self.plugins.hooks.every("admit", ticket=ticket)
        if not given:  # usually: thousands may wait for a build meanwhile
            ticket.admitted = True
            return nullcontext()
        return _holding(ticket, given)


@asynccontextmanager
async def _holding(ticket: Ticket, given: Sequence[tuple[str, Any]]) -> AsyncIterator[None]:
    async with AsyncExitStack() as slots:
        for plugin, slot in given:
            if not isinstance(slot, AbstractAsyncContextManager):
                told = f"it gave {type(slot).__name__}, which is no async context manager"
                raise PluginError(plugin, told, "admit")
            try:
                await slots.enter_async_context(slot)
            except Refused as error:
                error.policy = error.policy or plugin
                raise
        ticket.admitted = True
        yield


def _waiting(message: str, data: Mapping[str, Any] | None = None) -> Event:
    return Event("waiting", redact(str(message)).rstrip("\n") + "\n", redacted(data or {}))


def _ready(request: LaunchRequest, repo: Repo, image: Image, server: Server, *, public: bool) -> Event:
    """`ready` with all eight fields that BinderHub's clients read; `url` ends with a slash.

    `urlpath` is there if the request said what to open; folders of this machine, if it came from there.
    """
    own = not public and request.user is None and _is_here(request.client)
    extra = {key: value for key, value in server.extra.items() if own or key not in _OF_THIS_MACHINE}
    opened = request.urlpath if repo.urlpath is None else repo.urlpath
    return Event(
        "ready",
        f"server running at {server.url}\n",
        {
            **extra,
            **({"urlpath": opened} if request.urlpath else {}),
            "url": server.url,
            "token": server.token.reveal(),
            "image": image.name,
            "repo_url": repo.url,
            "binder_ref_url": repo.ref_url,
            "binder_launch_host": request.launch_host,
            "binder_request": request.binder_request,
            "binder_persistent_request": request.persistent(repo),
        },
    )


def _is_here(client: Client) -> bool:
    """Whether it is a program of this machine; one behind a trusted proxy has its own address."""
    try:
        return not client.ip or ip_address(client.ip).is_loopback
    except ValueError:
        return False


def _right(answer: Any, plugin: str, hook: str) -> Any:
    """`answer`, if it is of the type that a stage's hook gives. Raises PluginError."""
    if answer is not None and not isinstance(answer, _ANSWERS[hook]):
        told = f"it, or a plugin that was asked before it, gave a {type(answer).__name__} instead of a"
        raise PluginError(plugin, f"{told} {_ANSWERS[hook].__name__}", hook)
    return answer
