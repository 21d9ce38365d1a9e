"""The contracts of sinks and policies find what they are there to find: a broken plugin fails its rule's test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from ringbinder.config.options import NoOptions
from ringbinder.errors import EventsRejected, Refused, TransientError
from ringbinder.model import Allowance, LaunchRequest
from ringbinder.plugins.bases import Plugin, Sink
from ringbinder.plugins.hookspecs import Ticket
from ringbinder.protocol import SinkEvent
from ringbinder.testing import PolicyCase, PolicyContract, SinkCase, SinkContract, make_context
from ringbinder.testing.rules import rules_of


class Shelf:
    """The other side of the sinks below."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []
        self.mood = "well"
        self.asked = asyncio.Event()

    @asynccontextmanager
    async def being(self, mood: str) -> AsyncIterator[Any]:
        self.mood, self.asked = mood, asyncio.Event()
        yield self.asked
        self.mood = "well"

    async def put(self, found: Sequence[dict[str, Any]]) -> None:
        self.asked.set()
        if self.mood == "stalled":
            await asyncio.Event().wait()
        if self.mood == "down":
            raise TransientError("the shelf is down")
        if self.mood == "rejecting":
            raise EventsRejected("the shelf takes no such books")
        self.kept += found


class Good(Sink[NoOptions]):
    shelf: Shelf

    async def emit(self, events: Sequence[SinkEvent]) -> None:
        await self.shelf.put([event.capsule() for event in events])


class Backwards(Good):
    async def emit(self, events: Sequence[SinkEvent]) -> None:
        await super().emit(list(reversed(events)))


class Twice(Good):
    async def emit(self, events: Sequence[SinkEvent]) -> None:
        await super().emit([*events, *events[-1:]])


class Stripping(Good):
    async def emit(self, events: Sequence[SinkEvent]) -> None:
        found = [event.capsule() for event in events]
        await self.shelf.put([{**one, **({"text": one["text"].strip()} if "text" in one else {})} for one in found])


class Mutating(Good):
    async def emit(self, events: Sequence[SinkEvent]) -> None:
        for event in events:
            event.fields["seen"] = True  # type: ignore[index]
        await super().emit(events)


class Swallowing(Good):
    async def emit(self, events: Sequence[SinkEvent]) -> None:
        with suppress(TransientError, EventsRejected):
            await super().emit(events)


class AlwaysRejecting(Good):
    async def emit(self, events: Sequence[SinkEvent]) -> None:
        try:
            await super().emit(events)
        except TransientError as error:
            raise EventsRejected("no") from error


class NeverRejecting(Good):
    async def emit(self, events: Sequence[SinkEvent]) -> None:
        try:
            await super().emit(events)
        except EventsRejected as error:
            raise TransientError("no") from error


class Telling(Good):
    async def emit(self, events: Sequence[SinkEvent]) -> None:
        try:
            await super().emit(events)
        except TransientError as error:
            raise TransientError("no answer from https://user:hush-hush@shelf") from error


class Stubborn(Good):
    async def emit(self, events: Sequence[SinkEvent]) -> None:
        try:
            await super().emit(events)
        except asyncio.CancelledError:
            return


class Leaking(Good):
    async def emit(self, events: Sequence[SinkEvent]) -> None:
        self.task = asyncio.create_task(asyncio.sleep(600), name="leaked")
        await super().emit(events)


class Greedy(Good):
    async def emit(self, events: Sequence[SinkEvent]) -> None:
        await self.shelf.put([event.capsule() for event in events] or [{"number": 0}])


class WrongDelivery(Good):
    delivery = {"mode": "sometimes"}  # noqa: RUF012


SINKS: dict[str, tuple[type[Good], str]] = {
    "test_events_arrive_whole_and_in_order": (Backwards, "in order"),
    "test_events_arrive_whole_and_in_order twice": (Twice, "arrives once"),
    "test_any_text_survives": (Stripping, "text arrives as is"),
    "test_events_are_not_changed": (Mutating, "does not change"),
    "test_nothing_is_no_error": (Greedy, "none arrives"),
    "test_failure_is_reported": (Swallowing, "emit raises"),
    "test_failure_is_reported rejected": (AlwaysRejecting, "no EventsRejected"),
    "test_failure_is_reported secret": (Telling, "no secret shows"),
    "test_what_is_never_taken_is_rejected": (NeverRejecting, "raises EventsRejected"),
    "test_it_can_be_cancelled": (Stubborn, "ends at once"),
    "test_it_leaves_nothing_behind": (Leaking, "none of its tasks runs"),
    "test_its_delivery_is_one_that_exists": (WrongDelivery, "DeliverySettings"),
}


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
async def sink_case(tmp_path: Any, shelf: Shelf) -> AsyncIterator[Callable[[type[Good]], SinkCase]]:
    context = make_context(tmp_path, "shelf")

    async def received() -> Sequence[dict[str, Any]]:
        return shelf.kept

    def case(kind: type[Good]) -> SinkCase:
        sink = kind(NoOptions(), context)
        sink.shelf = shelf
        return SinkCase(
            sink=sink, received=received, down=lambda: shelf.being("down"), secrets=["hush-hush"],
            rejecting=lambda: shelf.being("rejecting"), stalled=lambda: shelf.being("stalled"),
        )  # fmt: skip

    yield case
    await context.services.close()


class TestGood(SinkContract):
    @pytest.fixture
    async def case(self, sink_case: Callable[[type[Good]], SinkCase]) -> SinkCase:
        return sink_case(Good)


@pytest.mark.parametrize("name", SINKS)
async def test_a_broken_sink_fails(name: str, sink_case: Callable[[type[Good]], SinkCase]) -> None:
    kind, words = SINKS[name]
    test = name.partition(" ")[0]
    with pytest.raises(AssertionError, match=words) as caught:
        await getattr(SinkContract(), test)(sink_case(kind))
    (note,) = caught.value.__notes__
    assert test.removeprefix("test_").replace("_", " ") in note
    assert "python -m ringbinder.testing sink" in note
    for task in asyncio.all_tasks():
        if task.get_name() == "leaked":
            task.cancel()


def test_every_rule_of_sinks_is_broken_once() -> None:
    assert {name.partition(" ")[0] for name in SINKS} == {name for name in vars(SinkContract) if "test_" in name}


# -- policies ---------------------------------------------------------------------------------------------


class Door(Plugin[NoOptions]):
    """One at a time; nobody from 192.0.2.0/24, and one who asks too much."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.place = asyncio.Semaphore(1)

    async def admit(self, ticket: Ticket) -> Any:
        if ticket.request.client.ip.startswith("192.0.2."):
            raise self.refusal()
        return self.inside(ticket)

    def refusal(self) -> Refused:
        return Refused("Not from there.", retry_after=5, status=403)

    @asynccontextmanager
    async def inside(self, ticket: Ticket) -> AsyncIterator[None]:
        if self.place.locked():
            ticket.notify("Waiting")
        async with self.place:
            yield

    async def allowance(self, request: LaunchRequest) -> Allowance | None:
        return Allowance(3, 2, 0.0)

    async def authenticate(self, headers: Any, target: str) -> Any:
        return None


class Closed(Door):
    async def admit(self, ticket: Ticket) -> Any:
        raise self.refusal()


class NoManager(Door):
    async def admit(self, ticket: Ticket) -> Any:
        return True


class Mute(Door):
    def refusal(self) -> Refused:
        return Refused(" ")


class OddStatus(Door):
    def refusal(self) -> Refused:
        return Refused("No.", status=200)


class Early(Door):
    count = 0

    async def admit(self, ticket: Ticket) -> Any:
        self.count += 1
        if self.count > 5:
            raise self.refusal()
        return await super().admit(ticket)


class Silencing(Door):
    @asynccontextmanager
    async def inside(self, ticket: Ticket) -> AsyncIterator[None]:
        with suppress(Exception):
            yield


class Clinging(Door):
    def inside(self, ticket: Ticket) -> Any:
        class Manager:
            async def __aenter__(self) -> None: ...
            async def __aexit__(self, *error: Any) -> bool:
                return True

        return Manager()


class Wordless(Door):
    @asynccontextmanager
    async def inside(self, ticket: Ticket) -> AsyncIterator[None]:
        async with self.place:
            yield


class Overdrawn(Door):
    async def allowance(self, request: LaunchRequest) -> Allowance | None:
        return Allowance(3, -1, 0.0)


class Guessing(Door):
    async def authenticate(self, headers: Any, target: str) -> Any:
        return "somebody"


class Misspelt(Plugin[NoOptions]):
    async def admitt(self, ticket: Ticket) -> Any: ...


class Open(Plugin[NoOptions]):
    async def permit(self, ticket: Ticket) -> Any: ...


POLICIES: dict[str, tuple[type[Plugin[NoOptions]], str, tuple[Any, ...]]] = {
    "test_its_hooks_are_called": (Misspelt, "call it 'admit'", ()),
    "test_its_hooks_are_called at all": (Open, "the hook admit or authenticate", ()),
    "test_who_may_is_let_in": (Closed, "who may is let in", ("launch",)),
    "test_who_may_is_let_in with nothing": (NoManager, "async context manager", ("launch",)),
    "test_refused_client_gets_the_reason": (Mute, "says why", ()),
    "test_refused_client_gets_the_reason oddly": (OddStatus, "one of HTTP's", ()),
    "test_asking_takes_nothing": (Early, "is entered, not when admit is called", ()),
    "test_what_fails_inside_goes_through": (Silencing, "passes through unchanged", ("build",)),
    "test_being_cancelled_goes_through": (Clinging, "cancellation passes through", ("build",)),
    "test_what_is_left_is_an_allowance": (Overdrawn, "within the limit", ()),
    "test_strange_headers_are_no_error": (Guessing, "a User, a Redirect or None", ({},)),
}


MakeCase = Callable[[type[Plugin[NoOptions]]], PolicyCase]


@pytest.fixture
async def policy_case(tmp_path: Any) -> AsyncIterator[MakeCase]:
    context = make_context(tmp_path, "door")

    def case(kind: type[Plugin[NoOptions]]) -> PolicyCase:
        policy: Any = kind(NoOptions(), context)
        who = LaunchRequest("gh", "a/b/c", client=_client("192.0.2.9"))
        return PolicyCase(policy=policy, refused=who, full=lambda: policy.place)

    yield case
    await context.services.close()


def _client(ip: str) -> Any:
    from ringbinder.model import Client

    return Client(ip)


class TestDoor(PolicyContract):
    @pytest.fixture
    async def case(self, policy_case: MakeCase) -> PolicyCase:
        return policy_case(Door)


@pytest.mark.parametrize("name", POLICIES)
async def test_a_broken_policy_fails(name: str, policy_case: MakeCase) -> None:
    kind, words, arguments = POLICIES[name]
    with pytest.raises(AssertionError, match=words):
        await getattr(PolicyContract(), name.partition(" ")[0])(policy_case(kind), *arguments)


def test_every_demand_of_a_suite_is_in_words() -> None:
    for suite in (SinkContract, PolicyContract):
        rules = list(_rules(suite))
        assert len(rules) == len([name for name in vars(suite) if name.startswith("test_")])
        for title, demands in rules:
            assert demands or title == "waiting client is notified and may leave", title


def _rules(suite: type) -> Iterator[tuple[str, tuple[str, ...]]]:
    for rule in rules_of(suite):
        yield rule.title, rule.demands
