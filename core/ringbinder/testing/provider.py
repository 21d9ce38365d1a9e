"""What every provider must do, as tests."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from attrs import field, frozen

from ..errors import RingbinderError, UserError
from ..git import FULL_SHA
from ..model import GitSource, LaunchRequest, Link, ProviderInfo, Repo
from ..plugins.javascript import javascript_problem, named_groups
from ..protocol import PHASES, Log
from .context import RecordingLog, descendants, left_over
from .rules import contract

HOSTILE_SPECS: Final = (
    "", "/", "//", "///", "a", "a/", "/a", "a//", "%", "%/%", "%zz/%zz/%zz", "%00/%00/%00", "a/b/%0a",
    "a/b/%0d%0a", "..", "../../..", "%2e%2e/%2e%2e/%2e%2e", "a/../..", "a/b/../c", "-a/-b/-c",
    "--upload-pack=id/b/HEAD", "a/b/--help", "a/b/-HEAD", "%2D%2Dupload-pack%3Did/HEAD", "ext%3A%3Aid/HEAD",
    "ext%3A%3Ash%20-c%20id%25%20HEAD/HEAD", "fd%3A%3A17/HEAD", "file%3A%2F%2F%2Fetc/HEAD", "%2Fetc/HEAD",
    ".%2F/HEAD", "ssh%3A%2F%2F-oProxyCommand%3Did%2Fx/HEAD", "http%3A%2F%2F/HEAD", "http%3A%2F%2F%5B/HEAD",
    "http%3A%2F%2Fa%3Ab%2Fc/HEAD", "http%3A%2F%2Fa%3A99999%2Fc/HEAD", "javascript%3Aalert(1)/HEAD",
    "a b/c d/e f", "a/b/c~1", "a/b/c^{}", "a/b/@{-1}", "a/b/:/x", "a/b/*", "a/b/[a]",
    "\u202egh/\ufeffrepo/\u2066main", "ä/ö/ü", "%ff%fe/%ff/%ff", "\ud800/\udfff/\ud800", "a/b/\x1b[31m",
    "a/b/;id;", "$(id)/`id`/|id", "a/b/main.lock", "a/b/.hidden", "a?b/c#d/e&f", "x" * 10_000, "%41" * 3_000,
    "/".join(["a"] * 5_000), "a/b/" + "c" * 10_000,
)  # fmt: skip
"""Specs that must be understood or refused, and never break anything."""


@frozen(kw_only=True)
class ProviderCase:
    """What to test a provider with."""

    provider: Any
    """The plugin, made."""
    spec: str
    """Of something that is there, and that the provider can fetch."""
    files: Mapping[str, bytes]
    """Some of the files that `spec` holds: path -> content."""
    unknown_ref_spec: str | None = None
    """The same repository with a ref that it does not have; None if this provider's specs have no ref."""
    unknown_repo_spec: str | None = None
    """A repository that is not there."""
    bad_specs: Sequence[str] = ()
    """Specs that do not have the provider's form."""
    links: Mapping[str, Link | None] = field(factory=dict)
    """Pasted addresses and what `recognize` must make of them."""
    stalled: Callable[[], AbstractAsyncContextManager[asyncio.Event]] | None = None
    """While entered, the other side does not answer; the event is set once it has been asked."""
    secrets: Sequence[str] = ()
    """Passwords and tokens that the case uses: they must not show anywhere."""
    local: bool = False
    """Asked from the command line."""

    def request(self, spec: str | None = None) -> LaunchRequest:
        name = self.provider.context.name
        return LaunchRequest(name, self.spec if spec is None else spec, local=self.local)

    async def repo(self, spec: str | None = None) -> Repo:
        repo = await self.provider.resolve(request=self.request(spec))
        assert isinstance(repo, Repo), f"Rule: resolve gives a Repo or raises a UserError, not {repo!r}."
        return repo

    async def fetch(self, repo: Repo, into: Path, log: Log) -> Any:
        """Brings the content as core does it: by the provider's hook, else with git."""
        fetch = getattr(self.provider, "fetch", None) or self.provider.context.git.fetch
        return await fetch(repo=repo, into=into, log=log)


@contract("provider")
class ProviderContract:
    """Subclass it as ``Test...`` and give the fixture `case`."""

    @pytest.fixture
    async def case(self) -> Any:
        raise NotImplementedError("give a fixture `case` that returns or yields a ProviderCase")

    async def test_describe_is_complete(self, case: ProviderCase) -> None:
        """The form of the home page is made from `describe`."""
        info = case.provider.describe()
        assert isinstance(info, ProviderInfo), "Rule: describe gives a ProviderInfo."
        assert info.display_name, "Rule: display_name is not empty."
        assert info.repo_label, "Rule: repo_label is not empty."
        spec = re.compile(info.spec_regex)
        assert spec.fullmatch(case.spec), f"Rule: spec_regex matches a valid spec; {case.spec!r} it does not."
        if info.detect_regex is not None:
            problem = javascript_problem(info.detect_regex)
            assert not problem, f"Rule: detect_regex is a regular expression of JavaScript: {problem}."
            assert "repo" in named_groups(info.detect_regex), "Rule: detect_regex has a group named repo."

    async def test_resolves_to_something_fixed(self, case: ProviderCase) -> None:
        """A `Repo` names content that does not change: the image is looked up, and built, by it."""
        first, second = await case.repo(), await case.repo()
        assert first == second, "Rule: while nothing changes, a spec resolves to the same Repo."
        for name in ("url", "ref", "resolved_spec", "ref_url", "slug"):
            assert getattr(first, name), f"Rule: Repo.{name} is not empty."
        if isinstance(first.source, GitSource):
            assert FULL_SHA.fullmatch(first.source.ref), "Rule: the ref of a GitSource is a whole commit id."

    async def test_resolved_spec_means_the_same(self, case: ProviderCase) -> None:
        """Links that are shared carry `resolved_spec`: it has to lead to the same content, for ever."""
        repo = await case.repo()
        again = await case.repo(repo.resolved_spec)
        assert again.ref == repo.ref, "Rule: resolved_spec resolves to the same ref."
        assert again.source == repo.source, "Rule: resolved_spec resolves to the same source."
        assert again.slug == repo.slug, "Rule: resolved_spec gives the same image name."
        assert again.resolved_spec == repo.resolved_spec, "Rule: resolved_spec is its own resolved_spec."

    async def test_no_credentials_in_what_is_public(self, case: ProviderCase) -> None:
        """Addresses stand in pages, logs and events."""
        repo = await case.repo()
        addresses = {"url": repo.url, "ref_url": repo.ref_url}
        if isinstance(repo.source, GitSource):
            addresses["source.url"] = repo.source.url
        for name, address in addresses.items():
            url = urlsplit(address)
            assert not url.password, f"Rule: Repo.{name} has no password."
            assert not (url.scheme in {"http", "https"} and url.username), f"Rule: Repo.{name} has no user name."
        for secret in case.secrets:
            assert secret not in repr(repo), "Rule: no secret shows in the Repo."

    async def test_an_unknown_ref_is_the_users_error(self, case: ProviderCase) -> None:
        """The person mistyped a branch, or it was deleted: they read that, and not of a bug."""
        if case.unknown_ref_spec is None:
            pytest.skip("this provider's specs have no ref")
        error = await self._refusal(case, case.unknown_ref_spec)
        assert error.code == "ref-not-found", f"Rule: an unknown ref is ref-not-found, not {error.code}."

    async def test_an_unknown_repository_is_the_users_error(self, case: ProviderCase) -> None:
        """The person mistyped a repository, or it is private: they read that, and not of a bug."""
        if case.unknown_repo_spec is None:
            pytest.skip("the case names no unknown repository")
        error = await self._refusal(case, case.unknown_repo_spec)
        assert error.code == "repo-not-found", f"Rule: an unknown repository is repo-not-found, not {error.code}."

    async def test_a_bad_spec_is_the_users_error(self, case: ProviderCase) -> None:
        """A spec of another form than the provider's is answered in words, before its host is asked."""
        for spec in case.bad_specs:
            error = await self._refusal(case, spec)
            assert error.code == "spec-invalid", f"Rule: {spec!r} is spec-invalid, not {error.code}."

    async def _refusal(self, case: ProviderCase, spec: str) -> UserError:
        with pytest.raises(UserError) as caught:
            await case.provider.resolve(request=case.request(spec))
        error = caught.value
        assert error.message.strip(), "Rule: a UserError says what happened."
        for secret in case.secrets:
            assert secret not in error.message, "Rule: no secret shows in a message."
        return error

    @pytest.mark.parametrize("spec", HOSTILE_SPECS, ids=lambda spec: ascii(spec)[1:41])
    async def test_a_hostile_spec_is_refused_in_words(self, case: ProviderCase, spec: str) -> None:
        """Specs come from strangers: none leads out of a folder, into a command or to an exception."""
        before = descendants()
        try:
            await case.provider.resolve(request=case.request(spec))
        except RingbinderError as error:
            text = str(error)
            assert len(text) < 2_000, "Rule: a message does not repeat a spec of any length."
            assert text.isprintable(), f"Rule: a message has no control characters; this one has: {text!r}."
        assert not await left_over(before), "Rule: resolve leaves no process."

    @pytest.mark.parametrize("link", HOSTILE_SPECS, ids=lambda link: ascii(link)[1:41])
    async def test_recognize_never_raises(self, case: ProviderCase, link: str) -> None:
        """Every provider is asked about every address that is pasted, also about what is none."""
        for text in (link, f"https://{link}", f"git@{link}"):
            found = case.provider.recognize(link=text)
            assert found is None or isinstance(found, Link), "Rule: recognize gives a Link or None."

    async def test_recognizes_its_own_addresses(self, case: ProviderCase) -> None:
        """People paste the address of the page that they look at."""
        for link, expected in case.links.items():
            found = case.provider.recognize(link=link)
            assert found == expected, f"Rule: {link!r} is {expected}, not {found}."

    async def test_fetch_brings_the_content(self, case: ProviderCase, tmp_path: Path) -> None:
        """Builders that cannot read the source get its files: those, complete, and nothing outside of the folder."""
        into = tmp_path / "fetched"
        into.mkdir()
        log = RecordingLog()
        before = descendants()
        done = await case.fetch(repo=await case.repo(), into=into, log=log)
        assert done is True, f"Rule: fetch gives True when it is done, not {done!r}."
        for name, content in case.files.items():
            assert (into / name).read_bytes() == content, f"Rule: fetch brings {name} unchanged at that ref."
        for phase, _ in log.lines:
            assert phase is None or phase in PHASES, f"Rule: {phase!r} is no phase of the protocol."
        for secret in case.secrets:
            assert secret not in log.text, "Rule: no secret shows in the log."
            for path in into.rglob("*"):
                found = path.is_file() and secret.encode() in path.read_bytes()
                assert not found, f"Rule: no secret stays in what was fetched; one is in {path.name}."
        assert not await left_over(before), "Rule: fetch leaves no process."

    async def test_cancelled_resolve_leaves_nothing(self, case: ProviderCase) -> None:
        """A client may leave while the host does not answer."""
        if case.stalled is None:
            pytest.skip("the case cannot stall the other side")
        before = descendants()
        async with case.stalled() as asked:
            await self._cancelled(case.provider.resolve(request=case.request()), asked)
            assert not await left_over(before), "Rule: a cancelled resolve leaves no process."

    async def test_cancelled_fetch_leaves_nothing(self, case: ProviderCase, tmp_path: Path) -> None:
        """A client may leave in the middle of a download: no process and no task of it stays."""
        if case.stalled is None:
            pytest.skip("the case cannot stall the other side")
        repo = await case.repo()
        into = tmp_path / "fetched"
        into.mkdir()
        before = descendants()
        async with case.stalled() as asked:
            await self._cancelled(case.fetch(repo=repo, into=into, log=RecordingLog()), asked)
            assert not await left_over(before), "Rule: a cancelled fetch leaves no process."

    async def _cancelled(self, work: Any, asked: asyncio.Event) -> None:
        task = asyncio.ensure_future(work)
        waiter = asyncio.ensure_future(asked.wait())
        await asyncio.wait({task, waiter}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        assert not task.done(), f"the case did not stall it: {task}"
        assert waiter.done(), "the other side was not asked within 60 s"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
