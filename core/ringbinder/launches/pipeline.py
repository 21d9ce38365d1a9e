"""One client's launch: resolve -> check -> (a build) -> launch."""

from __future__ import annotations

import time
from collections import deque
from contextlib import nullcontext
from ipaddress import ip_address
from typing import Final

import attrs
from attrs import define, field
from structlog.contextvars import bind_contextvars

from ..config.specs import SpecForms
from ..errors import Refused, UserError
from ..model import Client, Image, LaunchRequest, Plan, Repo, Server, Stage
from ..plugins.manager import Plugins
from ..protocol import Event
from ..runtime.services import Services
from ..runtime.silence import Silence, speaker
from ..secret import begin_launch
from .builders import Builders
from .failures import Explainer
from .links import provider_left_out
from .reporting import StageEvents
from .runs import Runs
from .sessions import Session
from .stages import Notify, Stages, Ticket, waiting

# What each session says: one object for all.
_BUILD_TO_START: Final = Event("waiting", "Waiting for build to start...\n")
_OF_THIS_MACHINE: Final = frozenset({"work_folder"})
"""Keys of `Server.extra` that name its folders."""
_LAUNCHING: Final = Event("launching", "Launching server...\n")


@define
class Pipeline:
    """Takes sessions through their stages; `runs` has the builds that they wait for."""

    stages: Stages
    plugins: Plugins
    services: Services
    explainer: Explainer
    reporter: StageEvents
    runs: Runs
    builders: Builders
    launch_seconds: deque[float] = field(factory=lambda: deque(maxlen=50), init=False)
    """How long the last launches took that succeeded, in this process."""

    async def serve(self, session: Session) -> None:
        """One client's launch, from its request to `ready` or `failed`."""
        stage: Stage = "resolve"
        plan: Plan | None = None
        request, notify = session.request, session.notify
        started, done = time.monotonic(), False
        bind_contextvars(session=session.name)
        speaker.set(lambda text: notify(Event("launching" if stage == "launch" else "waiting", text)))
        self.reporter.requested(request)
        try:
            repo = await self.resolve(request, notify)
            for notice in repo.notices:
                notify(waiting(notice))
            stage, plan = "check", self.plan(repo)
            plan, image = await self.find(repo)
            stage = "check" if request.build_only else "launch"
            ticket = Ticket("launch", request, notify, repo, plan)
            async with nullcontext() if request.build_only else await self.stages.admitted(ticket):
                done_with = "Found built image" if image is not None else "Image built"
                if image is None:
                    stage = "build"
                    image = await self._follow_build(session, plan)
                    if image is None:
                        return
                    plan = self.builders.plan_of(image, plan)
                elif not request.build_only:
                    notify(Event("built", "Found built image, launching...\n", {"imageName": image.name}))
                if request.build_only:
                    digest = {"imageDigest": image.digest} if self.builders.image else {}
                    notify(Event("ready", f"Done! {done_with}\n", {"imageName": image.name, **digest}))
                    done = True
                    return
                stage = "launch"
                server = await self._launch(session, plan, image)
            notify(_ready(request, repo, image, server, public=self.services.public))
            self.reporter.launched(request, repo)
            done = True
        except Exception as error:
            if isinstance(error, Refused):
                self.reporter.refused(request, stage, error, plan.repo if plan else None)
            notify(session.cancel_event or await self.explainer.event(stage, error, plan, local=request.local))
        finally:
            if not done:
                seconds, cancelled = time.monotonic() - started, session.cancel_event is not None
                found = plan.repo if plan else None
                self.reporter.launch_failed(request, stage, found, seconds, session.terminal, cancelled=cancelled)

    async def resolve(self, request: LaunchRequest, tell: Notify) -> Repo:
        """Asks the provider named in the link.

        Raises `UserError` (``provider-unknown``, ``provider-left-out``, ``ref-not-found``, ...).
        """
        if request.provider not in self.plugins.providers:
            if reason := self.plugins.left_out.get(request.provider):
                raise provider_left_out(request.provider, reason)
            raise UserError("provider-unknown", f"No provider found for prefix {request.provider}")
        begin_launch()
        async with await self.stages.admitted(Ticket("resolve", request, tell)):
            started = time.monotonic()
            try:
                repo = await self._resolve(request)
            except Exception as error:
                if not isinstance(error, Refused):
                    self.reporter.resolved(request, time.monotonic() - started, error)
                raise
        self.reporter.resolved(request, time.monotonic() - started, repo)
        return repo

    async def _resolve(self, request: LaunchRequest) -> Repo:
        chosen = f"provider:{request.provider}"
        options, forms = self.plugins.spec_options(request.provider), SpecForms.of(request.spec)
        try:
            options.permit(forms)
            return options.applied(await self._resolved(request), forms)
        except Refused as error:
            error.policy = error.policy or chosen
            raise

    async def _resolved(self, request: LaunchRequest) -> Repo:
        with Silence(lambda: f"{self.stages.describe(request.provider).display_name} has not answered"):
            repo = await self.stages.resolve(request)
        if repo is None:
            link = f"{request.provider}:{request.spec}"
            advice = "Double check your URL and that your repo is public."
            raise UserError("ref-not-found", f"Could not resolve ref for {link}. {advice}")
        return attrs.evolve(repo, provider=request.provider)

    def plan(self, repo: Repo) -> Plan:
        """What is built of `repo` if it is not there: by the builder that is asked first."""
        return next(iter(self.builders.plans(repo).values()))

    async def find(self, repo: Repo) -> tuple[Plan, Image | None]:
        """What to build, and the image if the registry has it. Raises what a registry raises."""
        if self.builders.image:
            return self.plan(repo), None
        for plan in {plan.image: plan for plan in self.builders.plans(repo).values()}.values():
            if image := await self.stages.check(plan, fresh=False):
                return plan, image
        return self.plan(repo), None

    async def _follow_build(self, session: Session, plan: Plan) -> Image | None:
        """The built image; None if the build failed: that event is then the session's last."""
        session.notify(_BUILD_TO_START)
        run = self.runs.join(plan, session.request)
        if session.request.user is not None:
            run.users.add(session.request.user.key)
        session.follow(run)
        with self.runs.following(run):
            if not run.task.done():
                await run.over.wait()
        return run.image

    async def _launch(self, session: Session, plan: Plan, image: Image) -> Server:
        request = session.request
        started = time.monotonic()
        session.notify(_LAUNCHING)
        silent = "The server has not answered"
        with (
            self.services.metrics.launching(request.provider, plan.repo.url),
            self.stages.writing(self.stages.settings.chosen["launcher"], session.notify, "launching", silent) as log,
        ):
            server = await self.stages.launch(image, request, plan, log)
        session.server = server  # at once: if anything fails from here on, it is taken down
        self.launch_seconds.append(time.monotonic() - started)
        self.reporter.server_started(server, request, plan.repo)
        return server


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
