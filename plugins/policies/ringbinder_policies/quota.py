"""How many servers may run at the same time, in all and of one repository, and who is next."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Final, Literal

from attrs import define, field, frozen, validators
from ringbinder import Context, Duration, Health, PluginError, Policy, Refused, Repo, RingbinderError, Ticket, option
from ringbinder.concurrency import SingleFlight, queue_notice
from ringbinder.specs import same_repository
from ringbinder_cluster.client import Patience
from ringbinder_cluster.watching import WatchTimes

from ._user_pods import UserPods, without_tag

_GOOD_FOR: Final = 5.0
"""Seconds for which a list of servers may let somebody in; it never keeps anybody out."""
_REMIND: Final = 30.0
_SMALLEST_ETA: Final = 1.0

_count = validators.optional(validators.ge(0))


@frozen
class QuotaOptions:
    """BinderHub's options, and what to do when there is no place."""

    total_quota: int | None = option(
        None, validator=_count, also="BinderHub.pod_quota",
        help="How many servers may run at the same time; 0: none, null: any number.",
    )  # fmt: skip
    per_repo_quota: int = option(
        0, validator=validators.ge(0), also="BinderHub.per_repo_quota",
        help="The same for one repository; 0: any number. `RepoProvider.spec_config` may set another.",
    )  # fmt: skip
    per_repo_quota_higher: int = option(
        0, validator=validators.ge(0), also="BinderHub.per_repo_quota_higher",
        help="The same for repositories in `high_quota_specs`.",
    )  # fmt: skip
    when_full: Literal["queue", "refuse"] = option(
        "queue", help="What happens to a launch for which there is no place: `queue` or, as in BinderHub, `refuse`."
    )
    max_waiting: int = option(200, validator=validators.ge(0), help="How many launches may wait; more are refused.")
    max_wait: Duration = option(600.0, help="How long a launch may wait until it is refused.")
    namespace: str = option(
        "", env="BUILD_NAMESPACE", also="BinderHub.build_namespace",
        help="Namespace on a Kubernetes cluster whose user pods are counted, from a watch; empty: the launcher's "
        "servers are.",
    )  # fmt: skip
    poll_interval: Duration = option(
        2.0, validator=validators.gt(0), help="How often the launcher is asked for its servers while launches wait."
    )


@define(eq=False)
class _Wish:
    """A launch that wants a place."""

    repo: Repo
    image: str
    """Name without tag: servers of all commits of a repository count together."""
    repository: str
    """Its address, the same for all spellings: those have images of their own, and count together too."""
    quota: int
    """Of its repository; 0: none."""
    granted: asyncio.Event = field(factory=asyncio.Event)


class LaunchQuota(Policy[QuotaOptions]):
    """Gives every launch a place before its image is built or said to be there, in the order of their coming.

    A place is taken at once with the decision, so that within this process no two launches get the same one.
    Who must wait is announced with events of phase ``waiting`` whose key ``queue`` is ``{"position": int, "eta_s":
    float or null}``. A launch that waits for its repository's quota holds up no other repository.
    """

    Config = QuotaOptions
    sections = ("LaunchQuota", "KubernetesLaunchQuota")

    patience: Patience | None = None
    watch_times: WatchTimes | None = None
    """Tests have shorter ones."""

    def __init__(self, config: QuotaOptions, context: Context) -> None:
        super().__init__(config, context)
        self._waiting: list[_Wish] = []
        self._launching: set[_Wish] = set()
        # When a launch had ended, well or not: from then on a new list of servers says whether it counts.
        self._over: deque[tuple[float, _Wish]] = deque()
        self._servers: Counter[str] = Counter()
        self._repositories: dict[str, str] = {}
        """By image, of what waits, is launched or runs."""
        self._listed_at = float("-inf")
        self._flight: SingleFlight[str, None] = SingleFlight()
        self._grants: deque[float] = deque(maxlen=20)
        self._building = 0
        self._pods: UserPods | None = None

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        if not self.config.namespace:
            yield
            return
        async with AsyncExitStack() as stack:
            try:
                watched = UserPods.watched(
                    self.context, self.config.namespace, self._grant_again, self.patience, self.watch_times
                )
                self._pods = await stack.enter_async_context(watched)
            except PluginError as error:
                message = "user pods cannot be counted; the launcher's servers are instead"
                self.context.log.warning(message, reason=str(error))
            try:
                yield
            finally:
                self._pods = None

    async def admit(self, ticket: Ticket) -> AbstractAsyncContextManager[None] | None:
        if ticket.stage == "build":
            return self._counting_a_build()
        if ticket.stage != "launch" or ticket.repo is None or ticket.plan is None:
            return None
        quota = self._quota_of(ticket.repo)
        if self.config.total_quota is None and not quota:
            return None
        repo, image = ticket.repo, without_tag(ticket.plan.image)
        return self._place(ticket, _Wish(repo, image, same_repository(repo.url), quota))

    async def health(self) -> Health | None:
        """BinderHub's check of this name, which never makes the whole unhealthy."""
        quota, trouble = self.config.total_quota, self._pods.trouble if self._pods else ""
        try:
            if not trouble:
                await self._list(0)
        except PluginError:
            if quota is None:  # a launcher that lists no servers, and need not
                return None
            raise
        except RingbinderError as error:
            trouble = str(error)
        if trouble:
            return Health("Pod quota", ok=False, detail={"message": trouble}, ignore_failure=True)
        users, builds = self._servers.total(), self._pods.builds if self._pods else self._building
        counts = {"total_pods": users + builds, "build_pods": builds, "user_pods": users}
        ok = quota is None or counts["total_pods"] <= quota
        return Health("Pod quota", ok, {**counts, "quota": quota}, ignore_failure=True)

    def _quota_of(self, repo: Repo) -> int:
        own = repo.settings.get("quota")
        if own is not None:
            if type(own) is not int or own < 0:
                message = f"RepoProvider.spec_config: the quota of {repo.url} is a whole number, not {own!r}"
                raise PluginError(self.context.name, message, "admit")
            return own
        return self.config.per_repo_quota_higher if repo.high_quota else self.config.per_repo_quota

    @asynccontextmanager
    async def _counting_a_build(self) -> AsyncIterator[None]:
        self._building += 1
        try:
            yield
        finally:
            self._building -= 1

    @asynccontextmanager
    async def _place(self, ticket: Ticket, wish: _Wish) -> AsyncIterator[None]:
        self._waiting.append(wish)
        self._repositories[wish.image] = wish.repository
        try:
            await self._list(_GOOD_FOR)
            self._grant()
            if not wish.granted.is_set():
                await self._list(0)
                self._grant()
            if not wish.granted.is_set():
                if self.config.when_full == "refuse" or len(self._waiting) > self.config.max_waiting:
                    raise self._refused(ticket, wish)
                await self._wait(ticket, wish)
            yield
        finally:
            if wish in self._waiting:
                self._waiting.remove(wish)
            self._over.append((self.context.clock.monotonic(), wish))

    async def _wait(self, ticket: Ticket, wish: _Wish) -> None:
        now = self.context.clock.monotonic
        end, message, announced_at = now() + self.config.max_wait, 0, 0.0
        while not wish.granted.is_set():
            if now() >= end:
                raise self._refused(ticket, wish)
            position = self._position(wish)
            if position != message or now() >= announced_at + _REMIND:
                message, announced_at = position, now()
                text, queue = queue_notice(position - 1, self._eta(position))
                ticket.notify(text, queue=queue)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.config.poll_interval):
                    await wish.granted.wait()
            if not wish.granted.is_set():
                try:
                    await self._list(self.config.poll_interval)
                except RingbinderError as error:
                    self.context.log.warning("the launcher does not tell its servers", error=str(error))
                self._grant()

    def _grant(self) -> None:
        """Gives places to those who wait, as far as there are any."""
        for wish in list(self._waiting):
            if not self._hindrance(wish):
                self._waiting.remove(wish)
                self._launching.add(wish)
                self._grants.append(self.context.clock.monotonic())
                wish.granted.set()

    def _hindrance(self, wish: _Wish) -> Literal["", "total", "repo"]:
        total = self.config.total_quota
        if total is not None and self._servers.total() + len(self._launching) >= total:
            return "total"
        if wish.quota:
            running = sum(
                count
                for image, count in self._servers.items()
                if image == wish.image or self._repositories.get(image) == wish.repository
            )
            launching = sum(other.repository == wish.repository for other in self._launching)
            if running + launching >= wish.quota:
                return "repo"
        return ""

    async def _list(self, age: float) -> None:
        """Asks for the servers, unless that was done less than `age` seconds ago. Raises what a launcher raises.

        Where pods are watched no one is asked; then TransientError says that the watch is broken.
        """
        clock = self.context.clock
        if self._pods is not None:
            self._pods.check()
            self._take(self._pods.images, self._pods.seen_at)
            return

        async def ask() -> None:
            began = clock.monotonic()
            servers = await self.context.servers.running()
            self._take(Counter(without_tag(server.image) for server in servers), began)

        if self._listed_at + age <= clock.monotonic():
            await self._flight("servers", ask)

    def _take(self, images: Counter[str], at: float) -> None:
        """How many servers ran on each image at the time `at`."""
        self._servers = images
        self._listed_at = at
        # What had ended before is in that list if it has made a server.
        while self._over and self._over[0][0] < at:
            self._launching.discard(self._over.popleft()[1])
        wanted = {wish.image for wish in (*self._waiting, *self._launching)}
        self._repositories = {
            image: repository for image, repository in self._repositories.items() if image in wanted or images[image]
        }

    def _grant_again(self) -> None:
        """A pod has come or gone."""
        if self._pods is not None and not self._pods.trouble:
            self._take(self._pods.images, self._pods.seen_at)
            self._grant()

    def _position(self, wish: _Wish) -> int:
        """Its place among those that wait for the same."""
        place = self._waiting.index(wish)
        if self._hindrance(wish) == "repo":
            return 1 + sum(other.repository == wish.repository for other in self._waiting[:place])
        return 1 + place

    def _eta(self, position: int) -> float | None:
        """Seconds until it is the turn of `position`, at the recent speed; None if that is not known."""
        if len(self._grants) < 2:
            return None
        each = (self._grants[-1] - self._grants[0]) / (len(self._grants) - 1)
        waited = self.context.clock.monotonic() - self._grants[-1]
        return round(max(each * position - waited, _SMALLEST_ETA), 1)

    def _refused(self, ticket: Ticket, wish: _Wish) -> Refused:
        whole = self._hindrance(wish) != "repo"
        status = "pod_quota" if whole else "repo_quota"
        self.context.metrics.count_launch(status, ticket.request.provider, wish.repo.url)
        many = "on this BinderHub" if whole else f"running {wish.repo.url}"
        return Refused(f"Too many users {many}! Try again soon.", retry_after=60, status=503)
