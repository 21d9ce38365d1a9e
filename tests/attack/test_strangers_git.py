"""A stranger's provider that leaves git to Ringbinder: what is refused, and whose credentials go where."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlsplit

import psutil
import pytest
from realparts.strangers import STRANGERS, Stranger, asked
from ringbinder import Context, GitSource, LaunchRequest, NoOptions, PluginError, Repo, TransientError, UserError
from ringbinder.git import Guard, client, credentials
from ringbinder.testing import RecordingLog, make_context
from ringbinder.testing.apiserver import ApiServer
from ringbinder.testing.gitserver import GitServer, Repository

pytestmark = pytest.mark.real("git")

COMMIT = "1" * 40
TRUSTING = {"RepoProvider": {"trusted_hosts": ["127.0.0.1"]}}
SPECIAL = [
    "file:///etc", "FILE:///etc", "file:/etc", "/etc", "./x", "~/x", "ext::sh -c id", "fd::17", "--upload-pack=id",
    "ssh://-oProxyCommand=id/x", "http://-x/r", "rsync://h/r", "ftp://h/r", "",
]  # fmt: skip


@pytest.fixture(params=list(STRANGERS.values()), ids=list(STRANGERS))
def provider(request: pytest.FixtureRequest) -> type:
    cls: type = request.param
    return cls


@pytest.fixture
async def watched_commands() -> AsyncIterator[Callable[[], str]]:
    """The command lines of all processes that were started meanwhile, as far as they were seen."""
    seen: set[str] = set()

    async def watch() -> None:
        while True:
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    seen.add(" ".join(child.cmdline()))
            await asyncio.sleep(0.002)

    watching = asyncio.create_task(watch())
    yield lambda: "\n".join(seen)
    watching.cancel()


def repo(url: str, ref: str = COMMIT) -> Repo:
    return Repo(url, GitSource(url, ref), ref, f"x/{ref}", url, "x", provider="stranger")


@pytest.mark.parametrize("url", SPECIAL)
async def test_address_that_is_no_remote_one_is_refused(tmp_path: Path, provider: type, url: str) -> None:
    """By resolve, and by fetch, should a provider have made it up without asking."""
    async with asked(tmp_path, provider) as ask:
        for ref in ("HEAD", COMMIT):
            with pytest.raises(UserError) as caught:
                await ask.resolve(url, ref, local=True)
            assert caught.value.code == "spec-invalid"
        with pytest.raises(UserError) as caught:
            await ask.fetch(repo(url), tmp_path / "into")
        assert caught.value.code == "spec-invalid"
        assert not any((tmp_path / "into").iterdir())


async def test_folder_of_this_machine_stays_closed(tmp_path: Path, provider: type) -> None:
    private = Repository.make(tmp_path / "private")
    commit = private.commit({"key": "a private key"})
    async with asked(tmp_path / "app", provider) as ask:
        with pytest.raises(UserError):
            await ask.fetch(repo(private.folder.as_uri(), commit), tmp_path / "into")
    assert not any((tmp_path / "into").iterdir())


@pytest.mark.parametrize("ref", ["--upload-pack=touch ran", "-x", "main", "1" * 39, "HEAD", f"{COMMIT}^{{/x}}"])
async def test_ref_that_is_no_commit_is_the_providers_mistake(
    tmp_path: Path, provider: type, git_server: GitServer, ref: str
) -> None:
    git_server.repository("r").commit({"x": "1"})
    async with asked(tmp_path, provider) as ask:
        with pytest.raises(PluginError, match="which is no commit id") as caught:
            await ask.fetch(repo(git_server.url("r"), ref), tmp_path / "into")
    assert caught.value.plugin == "stranger"
    assert not git_server.requests


@pytest.mark.parametrize("section", [None, "StrangerProvider", "RepoProvider"])
async def test_private_address_is_refused_unless_trusted(
    tmp_path: Path, git_server: GitServer, section: str | None
) -> None:
    commit = git_server.repository("r").commit({"x": "1"})
    options = {section: {"trusted_hosts": ["127.0.0.1"]}} if section else {}
    async with asked(tmp_path, Stranger, options, public=True) as ask:
        if section:
            assert (await ask.resolve(git_server.url("r"))).ref == commit
            assert (await ask.fetch(repo(git_server.url("r"), commit), tmp_path / "into") / "x").is_file()
            return
        for url in (git_server.url("r"), "ssh://git@127.0.0.1/r", "git://127.0.0.1/r", "http://0x7f.1/r"):
            for ref in ("main", commit):
                with pytest.raises(UserError) as caught:
                    await ask.resolve(url, ref)
                assert caught.value.code == "address-not-allowed", url
        with pytest.raises(UserError) as caught:
            await ask.fetch(repo(git_server.url("r"), commit), tmp_path / "into")
        assert caught.value.code == "address-not-allowed"
    assert not git_server.requests


async def test_submodule_at_a_private_address_is_refused(tmp_path: Path, git_server: GitServer) -> None:
    """The repository itself is on a host that the operator trusts, under another name than the submodule."""
    pinned = git_server.repository("inner").commit({"i": "1"})
    outer = git_server.repository("outer")
    outer.submodule("sub", f"http://localhost:{urlsplit(git_server.address).port}/inner", pinned)
    commit = outer.commit({"o": "1"})
    async with asked(tmp_path, Stranger, TRUSTING, public=True) as ask:
        with pytest.raises(UserError, match="submodule") as caught:
            await ask.fetch(repo(git_server.url("outer"), commit), tmp_path / "into")
    assert caught.value.code == "address-not-allowed"


async def test_redirect_is_not_followed(tmp_path: Path, git_server: GitServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a host on the internet; here 127.0.0.1 counts as that, under another name."""
    git_server.repository("r").commit({"x": "1"})

    async def look_up(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    monkeypatch.setattr(client, "Guard", partial(Guard, look_up=look_up, allows=lambda address: address == "127.0.0.1"))
    async with ApiServer.running() as front, asked(tmp_path, Stranger, public=True) as ask:
        url = f"http://git.example.test:{urlsplit(front.address).port}/r"
        front.fail(302, Location=f"{git_server.address}/r/info/refs?service=git-upload-pack")
        with pytest.raises(UserError, match="leads to another address"):
            await ask.resolve(url, "main")
        with pytest.raises(UserError, match="leads to another address"):
            await ask.fetch(repo(url), tmp_path / "into")
    assert front.requests
    assert not git_server.requests


async def test_limit_of_the_providers_own_section_holds(tmp_path: Path, git_server: GitServer) -> None:
    commit = git_server.repository("r").commit({"x": "1"})
    limits = {"RepoProvider": {"fetch_timeout": "1h"}, "StrangerProvider": {"fetch_timeout": 0.5, "retries": 0}}
    async with asked(tmp_path, Stranger, limits) as ask, git_server.stalled():
        with pytest.raises(TransientError, match=r"did not answer in time \(RepoProvider.fetch_timeout\)"):
            await ask.fetch(repo(git_server.url("r"), commit), tmp_path / "into")


async def test_credentials_of_a_host_go_to_no_other(
    tmp_path: Path, git_server: GitServer, watched_commands: Callable[[], str]
) -> None:
    """Those that a provider has named for the operator's host; neither to a submodule's, nor into a command line."""
    secret = "word-of-the-operator-4711"

    class Own(Stranger):
        def __init__(self, config: NoOptions, context: Context) -> None:
            super().__init__(config, context)
            context.git.add_host(git_server.address, credentials("me", secret))

    async with GitServer.running(tmp_path / "elsewhere") as elsewhere, asked(tmp_path / "app", Own) as ask:
        pinned = elsewhere.repository("inner").commit({"i": "1"})
        outer = git_server.repository("outer")
        inside = outer.commit({"o": "1"})
        outer.submodule("sub", elsewhere.url("inner"), pinned)
        beyond = outer.commit({"o": "2"})
        for server in (git_server, elsewhere):
            server.user, server.password = "me", secret
        assert (await ask.resolve(git_server.url("outer"))).ref == beyond
        into = await ask.fetch(repo(git_server.url("outer"), inside), tmp_path / "one")
        with pytest.raises(UserError) as caught:
            await ask.fetch(repo(git_server.url("outer"), beyond), tmp_path / "two")
        with pytest.raises(UserError) as closed:
            await ask.resolve(elsewhere.url("inner"))
    assert caught.value.code == "submodule-not-found"
    assert closed.value.code == "repo-not-found"
    assert elsewhere.requests
    assert "ls-remote" in watched_commands()
    kept = b"".join(path.read_bytes() for path in into.rglob("*") if path.is_file())
    for text in (watched_commands(), ask.log.text, str(caught.value), kept.decode("latin-1")):
        assert secret not in text


async def test_operators_credentials_are_for_the_operators_host(tmp_path: Path, git_server: GitServer) -> None:
    """Not for whatever a link names."""
    word = "word-of-the-operator-4711"

    class Own(Stranger):
        def __init__(self, config: NoOptions, context: Context) -> None:
            super().__init__(config, context)
            context.git.add_host(git_server.address)

    options = {"StrangerProvider": {"git_credentials": f"username=me\\npassword={word}"}}
    async with GitServer.running(tmp_path / "elsewhere") as elsewhere, asked(tmp_path / "app", Own, options) as ask:
        for server in (git_server, elsewhere):
            server.repository("r").commit({"x": "1"})
            server.user, server.password = "me", word
        assert (await ask.resolve(git_server.url("r"))).ref
        with pytest.raises(UserError) as caught:
            await ask.resolve(elsewhere.url("r"))
    assert caught.value.code == "repo-not-found"


async def test_password_in_an_address_is_taken_out_of_it(
    tmp_path: Path, git_server: GitServer, watched_commands: Callable[[], str]
) -> None:
    commit = git_server.repository("r").commit({"x": "1"})
    git_server.user, git_server.password = "me", "word-of-the-link-4711"
    context = make_context(tmp_path, "stranger")
    url = f"http://me:word-of-the-link-4711@{git_server.host}/r"
    provider = Stranger(NoOptions(), context)
    found = await provider.resolve(LaunchRequest("stranger", f"{quote(url, safe='')}/HEAD"))
    assert found.ref == commit
    (tmp_path / "into").mkdir()
    assert await provider.fetch(found, tmp_path / "into", RecordingLog())
    await context.services.close()
    assert (tmp_path / "into/x").read_text() == "1"
    assert "ls-remote" in watched_commands()
    assert "word-of-the-link" not in watched_commands()
    assert "word-of-the-link" not in (tmp_path / "into/.git/config").read_text()
