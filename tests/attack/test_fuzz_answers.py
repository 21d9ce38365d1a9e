"""Answers of strangers' servers: whatever they are, they end in a result or an error of ours, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import math
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from realparts.providers import made
from ringbinder.errors import ConfigError, RingbinderError, TransientError
from ringbinder.git.command import Access, GitCommand
from ringbinder.git.errors import explained, no_such_ref
from ringbinder.git.guard import Guard
from ringbinder.git.remote import Remote, _refs
from ringbinder.model import LaunchRequest
from ringbinder.plugins.context import Context
from ringbinder.runtime.clock import SystemClock
from ringbinder.runtime.http import MAX_BODY, MAX_BYTES
from ringbinder.runtime.retry import Retry
from ringbinder.secret import Secret
from ringbinder.testing import RecordingLog, make_context
from ringbinder_launchers import _api as hub
from ringbinder_providers.gist import GistOptions, GistProvider
from ringbinder_providers.github import GitHubOptions, GitHubProvider
from ringbinder_providers.gitlab import GitLabOptions, GitLabProvider
from ringbinder_providers.zenodo import ZenodoOptions, ZenodoProvider
from ringbinder_registries._challenges import challenges
from ringbinder_registries._credentials import DockerConfig
from ringbinder_registries.oci import OciRegistry

DEEP = b"[" * 200_000
HUGE = b'{"sha": ' + b"9" * 100_000 + b"}"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
KEYS = [
    "id", "sha", "files", "links", "self", "key", "size", "checksum", "public", "history", "version", "message",
    "errors", "token", "access_token", "expires_in", "code", "private", "visibility", "Username", "Secret",
]  # fmt: skip
ALIKE = st.recursive(
    st.sampled_from([None, True, -1, 7, 1e308, math.inf, math.nan, "", "1" * 40, "7", "https://zenodo.org/x", "http://["])
    | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=20,
)  # fmt: skip
BODIES = st.one_of(
    st.binary(max_size=40),
    JSON.map(lambda value: json.dumps(value).encode()),
    ALIKE.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([DEEP, HUGE, b'{"a":' * 50_000, b"\xff\xfe", b'{"expires_in": 1e999, "token": "t"}']),
)
WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["retry-after", "x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit-limit", "etag", "location",
         "www-authenticate", "docker-content-digest", "content-type"]
    ),
    WORDS | st.sampled_from(
        ["9" * 300, "Mon, 01 Jan 0001 00:00:00 +9999", "Fri, 31 Dec 9999 23:59:59 -2359", "https://[", "//evil.example",
         'Bearer realm="https://[/t"', 'Bearer realm="/token",scope="a b"', "Basic", "application/json"]
    ),
    max_size=4,
)  # fmt: skip
STATUS = st.sampled_from([200, 201, 202, 301, 304, 307, 401, 403, 404, 409, 422, 429, 500])
ANSWERS = st.tuples(STATUS, HEADERS, BODIES)


def run(work: Callable[[Context], Awaitable[Any]], answers: list[Any]) -> None:
    """Runs `work` where every request gets the next of `answers`: it may fail with an error of ours only."""
    asked = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        assert asked < 60, "there is no end of asking"
        status, headers, body = answers[asked % len(answers)]
        return httpx.Response(status, headers=headers, content=body)

    async def main(folder: Path) -> None:
        context = make_context(folder, "x", answer=answer)
        try:
            with contextlib.suppress(RingbinderError):
                await work(context)
        finally:
            await context.services.close()

    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(main(Path(scratch)))


NOBODY = "http://127.0.0.1:1"
QUICK: dict[str, Any] = {"retries": 0, "retry_delay": 0.0}
PROVIDERS: dict[str, tuple[Callable[[Context], Any], str]] = {
    "gh": (lambda c: made(GitHubProvider, GitHubOptions(clone_base_url=NOBODY, **QUICK), c), "u/r/" + "1" * 40),
    "gl": (lambda c: made(GitLabProvider, GitLabOptions(clone_base_url=NOBODY, **QUICK), c), "a%2Fb/" + "1" * 40),
    "gist": (lambda c: made(GistProvider, GistOptions(**QUICK), c), "u/abc/HEAD"),
    "zenodo": (lambda c: made(ZenodoProvider, ZenodoOptions(**QUICK), c), "10.5281/zenodo.7"),
    "doi": (lambda c: made(ZenodoProvider, ZenodoOptions(**QUICK), c), "10.1234/other"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROVIDERS)
@settings(max_examples=60)
@given(answers=st.lists(ANSWERS, min_size=1, max_size=3))
def test_any_answer_to_a_provider_is_harmless(name: str, answers: list[Any]) -> None:
    make, spec = PROVIDERS[name]

    async def work(context: Context) -> None:
        provider = make(context)
        repo = await provider.resolve(LaunchRequest(name, spec))
        if name == "zenodo":
            into = context.paths.cache / "into"
            into.mkdir(parents=True)
            await provider.fetch(repo, into, RecordingLog())
        await provider.doctor()

    run(work, answers)


@settings(max_examples=150)
@given(answers=st.lists(ANSWERS, min_size=1, max_size=4))
def test_any_answer_to_a_registry_is_harmless(answers: list[Any]) -> None:
    async def work(context: Context) -> None:
        options = OciRegistry.Config(
            url="https://registry.example", username="u", password=Secret("word-of-the-tests"),
            docker_config_path=context.paths.cache / "none", **QUICK,
        )  # fmt: skip
        registry = OciRegistry(options, context)
        await registry.doctor()
        await registry.look("registry.example/a/x:1")

    run(work, answers)


@given(answers=st.lists(ANSWERS, min_size=1, max_size=2))
def test_any_answer_of_a_hub_is_harmless(answers: list[Any]) -> None:
    async def work(context: Context) -> None:
        api = hub.HubApi(context.http, SystemClock(), "http://hub.example/", Secret("t"), 1, 0.0)
        reply = await api.ask("GET", "users/x")
        assert reply.refusal("look")

    run(work, answers)


@given(st.text(max_size=200), st.lists(st.text(max_size=50), max_size=5))
def test_any_challenge_is_read(header: str, more: list[str]) -> None:
    for offer in challenges([header, *more]):
        assert offer.scheme
        assert len(offer.parameters) <= len(header) + sum(map(len, more))


@pytest.mark.parametrize("text", ['a="' + "\\" * 10**6, "a " * 10**6, "a" + " " * 10**6, ',="' * 10**6, "a=" * 10**6])
def test_long_challenge_is_cut(text: str) -> None:
    offers = challenges([text])

    assert sum(len(offer.scheme) + len("".join(offer.parameters)) for offer in offers) <= 16_384


@pytest.mark.parametrize("body", [DEEP, HUGE, b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b'{"Username": 1, "Secret"'])
async def test_helper_that_answers_nonsense_is_an_error(
    tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    answer, helper = tmp_path / "answer", tmp_path / "docker-credential-fuzz"
    answer.write_bytes(body)
    helper.write_text(f"#!/bin/sh\nexec cat '{answer}'\n")
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text('{"credsStore": "x", "credHelpers": {"r.example": "fuzz"}}')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    with pytest.raises(ConfigError, match="gave no credentials that can be understood"):
        await DockerConfig(tmp_path / "config.json", context.log).find("https://r.example")


@given(st.text(max_size=300))
def test_any_list_of_refs_is_read(output: str) -> None:
    found = _refs(output)
    assert all(len(sha) == 40 and sha.isascii() for sha in found.values())
    assert str(no_such_ref("https://h.example/r", "main", found))


@given(st.text(max_size=300))
def test_any_error_of_git_is_explained(errors: str) -> None:
    message = str(explained("https://h.example/r", errors))
    assert len(message) < 1000
    assert "\n" not in message


def test_similar_names_of_refs_are_compared_within_bounds() -> None:
    """Steps, not seconds: what Python's comparison is given at most."""
    seen: list[int] = []

    def count(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_name == "find_longest_match":
            seen.append(len(frame.f_locals["self"].a) * len(frame.f_locals["self"].b))

    names = [f"refs/heads/{'a' * 2000}{number}" for number in range(20_000)]
    names += [f"refs/heads/{'ab' * 40}{number}" for number in range(20_000)]
    sys.setprofile(count)
    try:
        error = no_such_ref("https://h.example/r", "a" * 2000, names)
    finally:
        sys.setprofile(None)
    assert len(str(error)) < 1000
    assert sum(seen) <= 500 * 100 * 100 * 100


@pytest.mark.real("git")
async def test_git_server_with_endless_refs_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never stops: git's memory has a limit, so it ends before the time is over."""
    from ringbinder.git import command

    monkeypatch.setattr(command, "_MEMORY_KIB", str(256 * 1024))
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "application/x-git-upload-pack-advertisement"})
        await response.prepare(request)
        await response.write(b"001e# service=git-upload-pack\n0000")
        number = 0
        with contextlib.suppress(ConnectionError):
            while True:
                lines = []
                for _ in range(2000):
                    number += 1
                    line = b"%040x refs/heads/%s%d\n" % (number, b"x" * 150, number)
                    lines.append(b"%04x" % (len(line) + 4) + line)
                await response.write(b"".join(lines))
                sent += sum(map(len, lines))
        return response

    async with served(endless) as address:
        git = GitCommand("git", Retry(0.0, tries=1, clock=SystemClock()), Guard(on=False), tmp_path / "scratch")
        with pytest.raises(RingbinderError) as caught:
            await Remote(git, 120.0, 120.0).resolve(f"{address}/r", "main", Access())
    assert "in time" not in str(caught.value)
    assert sent < 400 * 2**20


@contextlib.asynccontextmanager
async def served(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    made = make_context(tmp_path, "x")
    yield made
    await made.services.close()


async def test_endless_body_is_cut_off_by_the_shared_client(context: Context) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(bytes(2**20))
                sent += 2**20
        return response

    async with served(endless) as address:
        with pytest.raises(httpx.ReadError, match="more than"):
            await context.http.get(address)
        with pytest.raises(httpx.ReadError, match="more than 100 bytes"):
            await context.http.get(address, extensions={MAX_BYTES: 100})
    assert sent < 2 * MAX_BODY


async def test_compressed_body_is_not_unpacked(context: Context) -> None:
    bomb = gzip.compress(bytes(50_000_000))

    async def compressed(request: web.Request) -> web.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(body=b"" if request.method == "HEAD" else bomb, headers={"Content-Encoding": "gzip"})

    async with served(compressed) as address:
        with pytest.raises(httpx.DecodingError, match="compressed"):
            await context.http.get(address)
        assert (await context.http.head(address)).status_code == 200


async def test_registry_that_drips_is_left(context: Context) -> None:
    """Each byte comes in time, the answer never: the limit is for the whole request."""

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.01)
        return response

    async with served(drip) as address:
        options = OciRegistry.Config(
            url=address, request_timeout=0.2, docker_config_path=context.paths.cache / "none", **QUICK
        )
        with pytest.raises(TransientError, match="it needs more than"):
            await OciRegistry(options, context).look("x:1")
