"""The contract suites find what they are there to find: a broken plugin fails the test of the rule."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import attrs
import psutil
import pytest
from attrs import evolve
from ringbinder import process
from ringbinder.config.options import NoOptions
from ringbinder.errors import BuildError, UserError
from ringbinder.model import (
    ArchiveSource,
    Declined,
    GitSource,
    Image,
    ImageKind,
    LaunchRequest,
    Link,
    Plan,
    ProviderInfo,
    Repo,
    Target,
)
from ringbinder.plugins.bases import Builder, Provider
from ringbinder.protocol import Log
from ringbinder.testing import (
    BuilderCase,
    BuilderContract,
    ProviderCase,
    ProviderContract,
    RecordingLog,
    folder_plan,
    make_context,
)


class Shelf(Provider[NoOptions]):
    """A right provider: specs are ``<book>/<edition>``, editions are 1 and 2, the newest is ``new``."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.silent: asyncio.Event | None = None

    def describe(self) -> ProviderInfo:
        return ProviderInfo("Shelf", r"[^/]+/.+", "Book", "example: emma/new", detect_regex="^(?<repo>.+)")

    def recognize(self, link: str) -> Link | None:
        return Link(self.context.name, link.removeprefix("shelf:") + "/new") if link.startswith("shelf:") else None

    async def resolve(self, request: LaunchRequest) -> Repo | None:
        book, _, edition = request.spec.partition("/")
        if not edition:
            raise UserError("spec-invalid", "Specs are book/edition.")
        if book != "emma":
            raise UserError("repo-not-found", "There is no such book.")
        if edition not in {"1", "2", "new"}:
            raise UserError("ref-not-found", "There is no such edition.")
        await self.ask()
        ref = "2" if edition == "new" else edition
        url = "https://shelf.example/emma"
        return Repo(url, ArchiveSource(f"{url}/{ref}"), ref, f"emma/{ref}", f"{url}/{ref}", "emma")

    async def fetch(self, repo: Repo, into: Path, log: Log) -> bool | None:
        await self.ask()
        log.line("Copying\n", "fetching")
        (into / "text").write_text(f"edition {repo.ref}")
        return True

    async def ask(self) -> None:
        """Asks the far end, through a process."""
        argv = ["sleep", "600"] if self.silent else ["true"]
        running = asyncio.create_task(process.run(argv, timeout=600))
        if self.silent:
            self.silent.set()
        await running

    @asynccontextmanager
    async def stalled(self) -> AsyncIterator[asyncio.Event]:
        self.silent = asyncio.Event()
        yield self.silent
        self.silent = None


def shelf_case(provider: Shelf) -> ProviderCase:
    return ProviderCase(
        provider=provider,
        spec="emma/new",
        files={"text": b"edition 2"},
        unknown_ref_spec="emma/9",
        unknown_repo_spec="none/1",
        bad_specs=["emma"],
        links={"shelf:emma": Link("shelf", "emma/new"), "https://example.org": None},
        stalled=provider.stalled,
        secrets=["very-secret-word"],
    )


class TestShelf(ProviderContract):
    @pytest.fixture
    async def case(self, tmp_path: Path) -> AsyncIterator[ProviderCase]:
        context = make_context(tmp_path, "shelf")
        yield shelf_case(Shelf(NoOptions(), context))
        await context.services.close()


class Nameless(Shelf):
    def describe(self) -> ProviderInfo:
        return attrs.evolve(super().describe(), display_name="")


class WrongRegex(Shelf):
    def describe(self) -> ProviderInfo:
        return attrs.evolve(super().describe(), spec_regex="[0-9]+")


class PythonRegex(Shelf):
    def describe(self) -> ProviderInfo:
        return attrs.evolve(super().describe(), detect_regex="^(?P<repo>.+)")


class Restless(Shelf):
    count = 0

    async def resolve(self, request: LaunchRequest) -> Repo | None:
        repo = await super().resolve(request)
        self.count += 1
        return repo and attrs.evolve(repo, ref=f"{repo.ref}.{self.count}")


class Drifting(Shelf):
    async def resolve(self, request: LaunchRequest) -> Repo | None:
        repo = await super().resolve(request)
        return repo and attrs.evolve(repo, resolved_spec="emma/1")


class Indiscreet(Shelf):
    async def resolve(self, request: LaunchRequest) -> Repo | None:
        repo = await super().resolve(request)
        return repo and attrs.evolve(repo, url="https://me:very-secret-word@shelf.example/emma")


class Vague(Shelf):
    async def resolve(self, request: LaunchRequest) -> Repo | None:
        try:
            return await super().resolve(request)
        except UserError:
            raise UserError("no", "very-secret-word") from None


class Crashing(Shelf):
    async def resolve(self, request: LaunchRequest) -> Repo | None:
        book, edition = request.spec.split("/")
        return await super().resolve(attrs.evolve(request, spec=f"{book}/{edition}"))

    def recognize(self, link: str) -> Link | None:
        return Link("shelf", link.encode("ascii").decode())


class Empty(Shelf):
    async def fetch(self, repo: Repo, into: Path, log: Log) -> bool | None:
        (into / "text").write_text("another text")
        return True


class Leaky(Shelf):
    async def fetch(self, repo: Repo, into: Path, log: Log) -> bool | None:
        (into / ".config").write_text("password = very-secret-word")
        log.line("with very-secret-word")
        return await super().fetch(repo, into, log)


class Careless(Shelf):
    """What it starts does not end with it."""

    async def ask(self) -> None:
        started = await asyncio.create_subprocess_exec("sleep", "600" if self.silent else "0")
        ABANDONED.append(started)
        if self.silent:
            self.silent.set()
        await started.wait()


class Branching(Shelf):
    """Its GitSource names a branch, which may be another commit tomorrow."""

    async def resolve(self, request: LaunchRequest) -> Repo | None:
        repo = await super().resolve(request)
        return evolve(repo, source=GitSource("https://shelf.example/emma", "main")) if repo else None


class Talkative(Shelf):
    """Its GitSource has a password in its address."""

    async def resolve(self, request: LaunchRequest) -> Repo | None:
        repo = await super().resolve(request)
        return evolve(repo, source=GitSource("https://me:word@shelf.example/emma", "1" * 40)) if repo else None


@pytest.mark.parametrize(
    ("broken", "test", "arguments", "rule"),
    [
        (Nameless, "test_describe_is_complete", {}, "display_name is not empty"),
        (WrongRegex, "test_describe_is_complete", {}, "spec_regex matches a valid spec"),
        (PythonRegex, "test_describe_is_complete", {}, "detect_regex is a regular expression of JavaScript"),
        (Restless, "test_resolves_to_something_fixed", {}, "resolves to the same Repo"),
        (Drifting, "test_resolved_spec_means_the_same", {}, "resolved_spec resolves to the same ref"),
        (Indiscreet, "test_no_credentials_in_what_is_public", {}, "has no password"),
        (Talkative, "test_no_credentials_in_what_is_public", {}, "source.url has no password"),
        (Branching, "test_resolves_to_something_fixed", {}, "a GitSource is a whole commit id"),
        (Vague, "test_an_unknown_ref_is_the_users_error", {}, "no secret shows in a message"),
        (Empty, "test_fetch_brings_the_content", {"tmp_path": ...}, "fetch brings text"),
        (Leaky, "test_fetch_brings_the_content", {"tmp_path": ...}, "no secret shows in the log"),
        (Careless, "test_cancelled_resolve_leaves_nothing", {}, "a cancelled resolve leaves no process"),
        (Careless, "test_cancelled_fetch_leaves_nothing", {"tmp_path": ...}, "a cancelled fetch leaves no"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("impatient")
async def test_a_broken_provider_is_found(
    tmp_path: Path, broken: type[Shelf], test: str, arguments: Mapping[str, Any], rule: str
) -> None:
    case = shelf_case(broken(NoOptions(), make_context(tmp_path, "shelf")))
    given = {name: tmp_path if value is ... else value for name, value in arguments.items()}
    try:
        with pytest.raises(AssertionError, match="Rule: .*" + rule):
            await getattr(ProviderContract(), test)(case, **given)
    finally:
        await end_sleepers()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left over here stays for ever: no use in waiting for it to end."""
    monkeypatch.setattr("ringbinder.testing.context.PATIENCE", 0.3)


ABANDONED: list[asyncio.subprocess.Process] = []


async def end_sleepers() -> None:
    for child in psutil.Process().children(recursive=True):
        if child.cmdline()[:2] == ["sleep", "600"]:
            child.kill()
    while ABANDONED:
        await ABANDONED.pop().communicate()


async def test_a_crash_on_hostile_input_is_found(tmp_path: Path) -> None:
    case = shelf_case(Crashing(NoOptions(), make_context(tmp_path, "shelf")))
    with pytest.raises(ValueError, match="unpack"):
        await ProviderContract().test_a_hostile_spec_is_refused_in_words(case, "a/b/c")
    with pytest.raises(UnicodeEncodeError):
        await ProviderContract().test_recognize_never_raises(case, "ä")


class ScriptBuilder(Builder[NoOptions]):
    """A right builder: runs the repository's `script`, if there is one, and declines what has an apt.txt."""

    makes: ClassVar[ImageKind] = "folder"

    def environment(self) -> dict[str, str]:
        return process.minimal_env()

    async def build(self, plan: Plan, target: Target, log: Log) -> Image | Declined | None:
        assert target.folder is not None
        target.folder.mkdir(parents=True)
        await self.context.fetch(plan.repo, target.folder, log)
        if (target.folder / "apt.txt").exists():
            return self.decline(target.folder)
        if (target.folder / "script").exists():
            await self.run(target.folder, log)
        return Image(plan.image, "folder", path=target.folder)

    def decline(self, folder: Path) -> Image | Declined:
        shutil.rmtree(folder)
        return Declined("apt.txt")

    async def run(self, folder: Path, log: Log) -> None:
        script = await process.start(
            ["./script"], cwd=folder, env=self.environment(), on_line=lambda line: log.line(line, "building")
        )
        try:
            code = await script.wait()
        finally:
            await script.stop()
        if code:
            raise BuildError(f"script ended with exit code {code}")


def script_case(builder: ScriptBuilder, tmp_path: Path) -> BuilderCase:
    async def target(plan: Plan) -> Target:
        return Target("folder", folder=tmp_path / "images" / hashlib.sha256(plan.image.encode()).hexdigest())

    def plan(name: str, script: str) -> Plan:
        return folder_plan(tmp_path / name, {"script": f"#!/bin/sh\n{script}\n"})

    return BuilderCase(
        builder=builder,
        target=target,
        good=plan("good", "echo building"),
        broken=plan("broken", "exit 3"),
        endless=plan("endless", "echo now it takes for ever; sleep 600"),
        reveals=plan("reveals", "env"),
        declines=folder_plan(tmp_path / "declines", {"apt.txt": ""}),
    )


class TestScriptBuilder(BuilderContract):
    @pytest.fixture
    async def case(self, tmp_path: Path) -> AsyncIterator[BuilderCase]:
        context = make_context(tmp_path, "script")
        yield script_case(ScriptBuilder(NoOptions(), context), tmp_path)
        await context.services.close()


class Misnamed(ScriptBuilder):
    async def build(self, plan: Plan, target: Target, log: Log) -> Image | Declined | None:
        image = await super().build(plan, target, log)
        return attrs.evolve(image, name="another") if isinstance(image, Image) else image


class Mislabelled(ScriptBuilder):
    makes: ClassVar[ImageKind] = "oci"


class Mute(ScriptBuilder):
    async def build(self, plan: Plan, target: Target, log: Log) -> Image | Declined | None:
        return await super().build(plan, target, RecordingLog())


class Boastful(ScriptBuilder):
    async def build(self, plan: Plan, target: Target, log: Log) -> Image | Declined | None:
        log.line("done", "ready")
        return await super().build(plan, target, log)


class OpenHanded(ScriptBuilder):
    def environment(self) -> dict[str, str]:
        return dict(os.environ)


class Abandoning(ScriptBuilder):
    async def run(self, folder: Path, log: Log) -> None:
        script = await asyncio.create_subprocess_exec("./script", cwd=folder, stdout=asyncio.subprocess.PIPE)
        ABANDONED.append(script)
        assert script.stdout is not None
        async for line in script.stdout:
            log.line(line.decode(), "building")


class Wordless(ScriptBuilder):
    def decline(self, folder: Path) -> Image | Declined:
        shutil.rmtree(folder)
        return Declined(" ")


class Untidy(ScriptBuilder):
    def decline(self, folder: Path) -> Image | Declined:
        return Declined("apt.txt")


class Hopeful(ScriptBuilder):
    def decline(self, folder: Path) -> Image | Declined:
        return Image("x", "folder", path=folder)


@pytest.mark.parametrize(
    ("broken", "test", "rule"),
    [
        (Misnamed, "test_builds_what_it_promises", "has the name of the plan"),
        (Mislabelled, "test_builds_what_it_promises", "it says it makes oci"),
        (Mute, "test_builds_what_it_promises", "tells of its progress"),
        (Boastful, "test_builds_what_it_promises", "core alone says 'ready'"),
        (Wordless, "test_what_it_declines_leaves_nothing", "the answer has the reason"),
        (Untidy, "test_what_it_declines_leaves_nothing", "a build that declines leaves no image"),
        (Hopeful, "test_what_it_declines_leaves_nothing", "what it does not build it declines"),
        (Abandoning, "test_cancelled_it_ends_everything", "a cancelled build leaves no process"),
    ],
)
@pytest.mark.usefixtures("impatient")
async def test_a_broken_builder_is_found(tmp_path: Path, broken: type[ScriptBuilder], test: str, rule: str) -> None:
    case = script_case(broken(NoOptions(), make_context(tmp_path, "script")), tmp_path)
    try:
        with pytest.raises(AssertionError, match="Rule: .*" + rule):
            await getattr(BuilderContract(), test)(case)
    finally:
        await end_sleepers()


async def test_a_builder_that_gives_secrets_away_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = script_case(OpenHanded(NoOptions(), make_context(tmp_path, "script")), tmp_path)
    with pytest.raises(AssertionError, match="Rule: the build's environment has no"):
        await BuilderContract().test_the_operators_secrets_stay_out(case, monkeypatch)
