"""The fakes do what they are told, and say that they are fakes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog
from attrs import define, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ringbinder.errors import BuildError, TransientError, UserError
from ringbinder.model import Image, LaunchRequest, Plan, Target
from ringbinder.plugins.context import Context
from ringbinder.protocol import Phase
from ringbinder.runtime.paths import Paths
from ringbinder.runtime.services import Services
from ringbinder.testing import FakeClock
from ringbinder_fake import FakeBuilder, FakeLauncher, FakeProvider, FakeRegistry

Make = Callable[[], Context]
Call = Callable[[], Awaitable[object]]
KINDS = {
    "providers": FakeProvider, "registries": FakeRegistry, "builders": FakeBuilder, "launchers": FakeLauncher,
}  # fmt: skip


@define
class NotedLog:
    lines: list[tuple[str, Phase | None]] = field(factory=list)
    states: list[tuple[Mapping[str, Any], str]] = field(factory=list)

    def line(self, message: str, phase: Phase | None = None) -> None:
        self.lines.append((message, phase))

    def progress(self, layers: Mapping[str, Any], message: str = "Pushing image\n") -> None:
        self.states.append((layers, message))

    @property
    def text(self) -> str:
        return "".join(message for message, _ in self.lines)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(jumps=True)


@pytest.fixture
def log() -> NotedLog:
    return NotedLog()


@pytest.fixture
async def context(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Callable[[], Context]]:
    services = Services(structlog.get_logger(), Paths(tmp_path / "state", tmp_path / "cache"), clock)
    yield lambda: Context("fake", services, services.log)
    await services.close()


def make(cls: Any, context: Make, **options: Any) -> Any:
    return cls(cls.Config(**options), context())


async def plan_for(context: Make, spec: str = "owner/name/main") -> Plan:
    repo = await make(FakeProvider, context).resolve(LaunchRequest("fake", spec))
    return Plan(repo, f"{repo.slug}:{repo.ref}", f"build-{repo.ref[:7]}")


@pytest.mark.parametrize("kind", KINDS)
def test_found_by_their_entry_points(kind: str) -> None:
    (entry,) = entry_points(group=f"ringbinder.{kind}", name="fake")
    assert entry.load() is KINDS[kind]


@pytest.mark.parametrize("cls", KINDS.values())
def test_every_option_is_documented_and_has_a_default(cls: Any) -> None:
    assert cls.sections == ("Fake", cls.__name__)
    for option in attrs.fields(cls.Config):
        assert option.metadata["help"].endswith((".", ";"))
        assert option.default is not attrs.NOTHING


async def test_all_stages(context: Make, log: NotedLog, clock: FakeClock) -> None:
    plan = await plan_for(context)
    registry, launcher = make(FakeRegistry, context), make(FakeLauncher, context)
    assert await registry.check(plan, fresh=False) is None
    target = await registry.target(plan)
    image = await make(FakeBuilder, context).build(plan, target, log)
    assert image == Image(plan.image, "oci")
    assert await registry.check(plan, fresh=True) is None
    pushed = await registry.push(image, target, log)
    assert pushed.pushed
    assert pushed.built_at == clock.time()
    assert re.fullmatch("sha256:[0-9a-f]{64}", pushed.digest)
    assert await registry.check(plan, fresh=False) == await registry.check(plan, fresh=True) == pushed
    assert await registry.images() == (pushed,)

    request = LaunchRequest("fake", "owner/name/main")
    one, two = [await launcher.launch(pushed, request, plan, log) for _ in range(2)]
    assert one.id != two.id
    assert one.url != two.url
    assert one.token != two.token
    assert one.url == f"http://127.0.0.1:1/fake/{one.id}/"
    assert one.image == plan.image
    assert await launcher.servers() == (one, two)
    assert [await launcher.stop(server) for server in (one, one)] == [True, False]
    assert await launcher.servers() == (two,)

    assert [await registry.delete(pushed) for _ in range(2)] == [True, False]
    assert await registry.check(plan, fresh=False) is None
    assert one.token.reveal() not in log.text
    assert all(message.endswith("\n") for message, _ in log.lines)
    assert all("fake" in message.lower() for message, _ in log.lines)


async def test_default_waits_for_nothing(context: Make, log: NotedLog, clock: FakeClock) -> None:
    await test_all_stages(context, log, clock)
    assert sum(clock.sleeps) == 0


@given(spec=st.from_regex(r"\A[^/%\s]+/[^/%\s]+/[^%\s]+\Z") | st.text(max_size=60) | st.text("a/%2F40.-:@\n\udcff"))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_spec_is_a_repository_or_the_users_error(context: Make, spec: str) -> None:
    provider = make(FakeProvider, context)
    refusal: UserError | None = None
    try:
        repo = await provider.resolve(LaunchRequest("fake", spec))
    except UserError as error:
        refusal = error
    if refusal is not None:
        assert refusal.code == "spec-invalid"
        assert "owner/name/ref" in refusal.message
        return
    assert re.fullmatch("[0-9a-f]{40}", repo.ref)
    assert re.fullmatch(provider.describe().spec_regex, spec, re.DOTALL)
    assert await provider.resolve(LaunchRequest("fake", spec)) == repo
    assert await provider.resolve(LaunchRequest("fake", repo.resolved_spec)) == repo
    assert repo.url.startswith("https://fake.invalid/")
    assert repo.ref_url == f"{repo.url}/tree/{repo.ref}"
    assert repo.url.isascii()


async def test_another_ref_or_name_is_another_commit(context: Make) -> None:
    specs = ["a/b/main", "a/b/dev", "a/c/main", "c/b/main"]
    assert len({(await plan_for(context, spec)).repo.ref for spec in specs}) == len(specs)
    assert (await plan_for(context, "a/b/" + "0a" * 20)).repo.ref == "0a" * 20


async def test_fetch_shows_that_it_is_a_fake(context: Make, log: NotedLog, tmp_path: Path) -> None:
    repo = (await plan_for(context)).repo
    assert await make(FakeProvider, context).fetch(repo, tmp_path, log)
    assert "nothing was fetched" in (tmp_path / "README.md").read_text()
    assert [phase for _, phase in log.lines] == ["fetching"]


async def test_delays(context: Make, log: NotedLog, clock: FakeClock) -> None:
    plan = await plan_for(context)
    registry = make(FakeRegistry, context, check_seconds=2.0, target_seconds=3.0, push_seconds=5.0)
    provider = make(FakeProvider, context, resolve_seconds=1.0)
    builder = make(FakeBuilder, context, build_seconds=4.0)
    launcher = make(FakeLauncher, context, launch_seconds=6.0)
    target, image = Target("oci", plan.image), Image(plan.image, "oci")
    request = LaunchRequest("fake", "a/b/c")
    calls: list[tuple[float, Call]] = [
        (1.0, lambda: provider.resolve(request)),
        (2.0, lambda: registry.check(plan, fresh=False)),
        (3.0, lambda: registry.target(plan)),
        (4.0, lambda: builder.build(plan, target, log)),
        (5.0, lambda: registry.push(image, target, log)),
        (6.0, lambda: launcher.launch(image, request, plan, log)),
    ]
    for seconds, call in calls:
        before = clock.now
        await call()
        assert clock.now - before == pytest.approx(seconds)


@pytest.mark.parametrize(("lines", "size"), [(0, 80), (1, 80), (250, 200), (3, 5), (2, 1), (2, 0)])
async def test_number_and_size_of_lines(context: Make, log: NotedLog, lines: int, size: int) -> None:
    plan = await plan_for(context)
    builder = make(FakeBuilder, context, lines=lines, line_bytes=size)
    await builder.build(plan, Target("oci", plan.image), log)
    assert [len(message) for message, _ in log.lines[1:]] == [max(size, 1)] * lines
    assert len({message for message, _ in log.lines[1:]}) == (lines if size >= 80 else min(lines, 1))


async def test_lines_per_second(context: Make, log: NotedLog, clock: FakeClock) -> None:
    plan = await plan_for(context)
    start = clock.now
    builder = make(FakeBuilder, context, lines=101, lines_per_second=20.0)
    await builder.build(plan, Target("oci", plan.image), log)
    assert clock.now - start == pytest.approx(5.0)


async def test_a_fast_build_lets_others_run(context: Make, log: NotedLog) -> None:
    plan = await plan_for(context)
    builder = make(FakeBuilder, context, lines=100_000, lines_per_second=1e9)
    build = asyncio.create_task(builder.build(plan, Target("oci", plan.image), log))
    turns = 0
    while not build.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 500


async def test_push_reports_layers_in_the_protocols_shape(context: Make, log: NotedLog) -> None:
    plan = await plan_for(context)
    registry = make(FakeRegistry, context, push_layers=2, push_layer_bytes=1000)
    await registry.push(Image(plan.image, "oci"), Target("oci", plan.image), log)
    *running, (last, _) = log.states
    names = set(last)
    assert len(names) == 2
    assert set(last.values()) == {"Pushed"}
    assert [state for state, _ in running] == [
        {name: {"current": current, "total": 1000} for name in names} for current in range(100, 1001, 100)
    ]
    assert {message for _, message in log.states} == {"Pushing fake image\n"}


async def test_cached_has_every_image(context: Make) -> None:
    plan = await plan_for(context)
    image = await make(FakeRegistry, context, cached=True).check(plan, fresh=True)
    assert image is not None
    assert (image.name, image.kind, image.pushed) == (plan.image, "oci", True)


@pytest.mark.parametrize(
    ("url", "given"), [("http://h:1/x/{id}", "http://h:1/x/{}/"), ("http://h/{a}", "http://h/{{a}}/")]
)
async def test_url_of_the_servers(context: Make, log: NotedLog, url: str, given: str) -> None:
    launcher = make(FakeLauncher, context, url=url)
    plan = await plan_for(context)
    server = await launcher.launch(Image("i:1", "oci"), LaunchRequest("fake", "a/b/c"), plan, log)
    assert server.url == given.format(server.id)


async def call(hook: str, context: Make, log: NotedLog, **options: Any) -> list[Call]:
    """The call of `hook` on a plugin with these options, and that plugin's other calls."""
    plan = await plan_for(context)
    target, image, request = (
        Target("oci", plan.image),
        Image(plan.image, "oci"),
        LaunchRequest("fake", "a/b/c"),
    )
    registry = make(FakeRegistry, context, **options)
    provider, builder = make(FakeProvider, context, **options), make(FakeBuilder, context, **options)
    launcher = make(FakeLauncher, context, **options)
    calls: dict[str, Call] = {
        "resolve": lambda: provider.resolve(request),
        "check": lambda: registry.check(plan, fresh=False),
        "target": lambda: registry.target(plan),
        "build": lambda: builder.build(plan, target, log),
        "push": lambda: registry.push(image, target, log),
        "launch": lambda: launcher.launch(image, request, plan, log),
    }
    return [calls.pop(hook), *calls.values()]


HOOKS = ["resolve", "check", "target", "build", "push", "launch"]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize(
    ("fault", "error"), [("user", UserError), ("transient", TransientError), ("bug", RuntimeError)]
)
async def test_failure(context: Make, log: NotedLog, hook: str, fault: str, error: type[Exception]) -> None:
    this, *others = await call(hook, context, log, fail_at=hook, fail_with=fault)
    for _ in range(3):
        with pytest.raises(error, match=f"Fake failure.*'{hook}'") as caught:
            await this()
        assert isinstance(caught.value, BuildError) is (hook == "build" and fault == "user")
    for other in others:
        await other()


@pytest.mark.parametrize("hook", HOOKS)
async def test_hang_ends_only_when_it_is_cancelled(context: Make, log: NotedLog, hook: str) -> None:
    this, *_ = await call(hook, context, log, fail_at=hook, fail_with="hang")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(this(), 0.05)


async def test_failing_only_so_many_times(context: Make, log: NotedLog) -> None:
    this, *_ = await call("launch", context, log, fail_at="launch", fail_with="transient", fail_times=2)
    for _ in range(2):
        with pytest.raises(TransientError):
            await this()
    await this()
    await this()


async def test_what_failed_leaves_nothing(context: Make, log: NotedLog) -> None:
    plan = await plan_for(context)
    launcher = make(FakeLauncher, context, fail_at="launch")
    with pytest.raises(UserError):
        await launcher.launch(Image(plan.image, "oci"), LaunchRequest("fake", "a/b/c"), plan, log)
    assert await launcher.servers() == ()
    registry = make(FakeRegistry, context, fail_at="push")
    with pytest.raises(UserError):
        await registry.push(Image(plan.image, "oci"), Target("oci", plan.image), log)
    assert await registry.images() == ()


async def test_a_failed_build_has_written_its_lines(context: Make, log: NotedLog) -> None:
    plan = await plan_for(context)
    with pytest.raises(BuildError):
        await make(FakeBuilder, context, lines=7, fail_at="build").build(plan, Target("oci", plan.image), log)
    assert len(log.lines) == 8
