"""Resolving and fetching against a real git server."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psutil
import pytest
from aiohttp import web
from attrs import evolve
from realparts.providers import made
from ringbinder.errors import PluginError, RingbinderError, TransientError, UserError
from ringbinder.model import FolderSource, GitSource, LaunchRequest, Repo
from ringbinder.plugins.context import Context
from ringbinder.testing.gitserver import GitServer, Repository
from ringbinder_providers.git import GitOptions
from ringbinder_providers.github import GitHubOptions, GitHubProvider
from ringbinder_providers.gitlab import GitLabOptions, GitLabProvider

if TYPE_CHECKING:
    from tests.providers.conftest import Anyone, Asker

pytestmark = pytest.mark.real("git")

NO_API: dict[str, Any] = {"api_base_path": "http://127.0.0.1:1", "retries": 0}
"""Nobody listens there, so git is asked."""


async def refusal(ask: Anyone, url: str, ref: str = "HEAD") -> UserError:
    with pytest.raises(UserError) as caught:
        await ask.resolve(url, ref)
    return caught.value


async def test_every_kind_of_ref(server: GitServer, ask: Asker) -> None:
    repository = server.repository("a/b")
    first = repository.commit({"x": "1"})
    repository.tag("plain")
    repository.tag("annotated", annotated=True)
    repository.git("tag", "-a", "-m", "x", "of-a-tag", "annotated")
    repository.branch("feature/x")
    second = repository.commit({"x": "2"})
    repository.git("update-ref", "refs/pull/5/head", second)
    repository.switch("main")
    url = server.url("a/b")
    for ref, sha in {
        "HEAD": first, "main": first, "plain": first, "annotated": first, "of-a-tag": first,
        "refs/tags/annotated": first, "tags/annotated": first, "feature/x": second, "heads/feature/x": second,
        "refs/heads/feature/x": second, "pull/5/head": second, second: second, second.upper(): second,
    }.items():  # fmt: skip
        repo = await ask.resolve(url, ref)
        assert repo.ref == sha, ref
        assert repo == Repo(url, GitSource(url, sha), sha, f"{quote(url, safe='')}/{sha}", url, url)


async def test_only_the_very_ref_counts(server: GitServer, ask: Asker) -> None:
    repository = server.repository("r")
    right = repository.commit({"x": "right"})
    wrong = repository.commit({"x": "wrong"})
    repository.git("update-ref", "refs/remotes/origin/x", wrong)
    repository.git("update-ref", "refs/heads/a/x", wrong)
    repository.git("update-ref", "refs/heads/x", right)
    repository.git("update-ref", "refs/heads/HEAD", right)
    assert (await ask.resolve(server.url("r"), "x")).ref == right
    assert (await ask.resolve(server.url("r"), "HEAD")).ref == wrong
    assert (await refusal(ask, server.url("r"), "origin/x")).code == "ref-not-found"


async def test_a_branch_wins_over_a_tag_as_in_git_clone(server: GitServer, ask: Asker, tmp_path: Path) -> None:
    repository = server.repository("r")
    tagged = repository.commit({"x": "tag"})
    repository.tag("both")
    branched = repository.commit({"x": "branch"})
    repository.git("branch", "both")
    assert (await ask.resolve(server.url("r"), "both")).ref == branched
    assert (await ask.resolve(server.url("r"), "tags/both")).ref == tagged
    clone = ["git", "clone", "-q", "--branch", "both", str(repository.folder), str(tmp_path / "clone")]
    await asyncio.to_thread(subprocess.run, clone, check=True)
    assert (tmp_path / "clone/x").read_text() == "branch"


async def test_an_unknown_ref_shows_what_was_meant(server: GitServer, ask: Asker) -> None:
    repository = server.repository("r")
    sha = repository.commit({"x": "1"})
    repository.branch("Develop")
    repository.tag("v1.0", annotated=True)
    url = server.url("r")
    assert str(await refusal(ask, url, "develop")) == (
        f'There is no branch, tag or commit "develop" in {url}. Did you mean "Develop"?'
    )
    assert '"v1.0"' in str(await refusal(ask, url, "v1"))
    assert "all 40 characters" in str(await refusal(ask, url, sha[:7]))
    assert "Did you mean" not in str(await refusal(ask, url, "qqqqqqqqqqqq"))


async def test_an_empty_repository(server: GitServer, ask: Asker) -> None:
    server.repository("r")
    error = await refusal(ask, server.url("r"))
    assert error.code == "ref-not-found"
    assert "is empty" in str(error)


async def test_a_repository_that_is_not_there_or_closed(server: GitServer, ask: Asker) -> None:
    server.repository("r").commit({"x": "1"})
    for url in (server.url("no/where"), f"{server.address}/r/deeper"):
        error = await refusal(ask, url)
        assert error.code == "repo-not-found"
        assert "Check the address and that it is public" in str(error)
    server.user, server.password = "me", "right-password"
    assert (await refusal(ask, server.url("r"))).code == "repo-not-found"
    wrong = await refusal(ask, f"http://me:wrong-password@{server.host}/r")
    assert wrong.code == "repo-not-found"
    assert "wrong-password" not in str(wrong)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_host_in_trouble_may_be_asked_again(server: GitServer, ask: Asker, status: int) -> None:
    server.repository("r").commit({"x": "1"})
    server.fail(status)
    why = "asked too often" if status == 429 else f"HTTP status {status}"
    with pytest.raises(TransientError, match=f"did not answer: .*{why}"):
        await ask.resolve(server.url("r"))
    server.fail(0)
    await ask.resolve(server.url("r"))


async def test_a_host_that_is_not_there(ask: Asker) -> None:
    for url in ("http://127.0.0.1:1/x", "git://127.0.0.1:1/x"):
        with pytest.raises(TransientError, match="did not answer: no connection to it could be made"):
            await ask.resolve(url)
    with pytest.raises(TransientError, match="its host is not known here"):
        await ask.resolve("https://no-such-host.invalid/x")


async def test_a_host_that_never_answers(server: GitServer, ask: Asker) -> None:
    ask = ask.configured(GitOptions(resolve_timeout=0.5))
    async with server.stalled():
        with pytest.raises(TransientError, match=r"did not answer in time \(RepoProvider\.resolve_timeout\)"):
            await ask.resolve(server.url("r"))


async def test_fetch_past_its_time_names_that_limit(server: GitServer, ask: Asker, tmp_path: Path) -> None:
    server.repository("r").commit({"x": "1"})
    repo = await ask.resolve(server.url("r"))
    async with server.stalled():
        with pytest.raises(TransientError, match=r"did not answer in time \(RepoProvider\.fetch_timeout\)"):
            await ask.configured(GitOptions(fetch_timeout=0.5)).fetch(repo, tmp_path / "into")


async def test_a_page_that_is_no_repository(ask: Asker, server: GitServer) -> None:
    server.fail(200)
    assert (await refusal(ask, server.url("r"))).code == "repo-not-found"


async def test_no_program_of_the_account_decides(
    server: GitServer, anyone: Anyone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its git configuration, nor netrc, nor a helper, nor a prompt."""
    server.repository("r").commit({"x": "1"})
    server.user, server.password = "me", "from-netrc"
    home = tmp_path / "home"
    home.mkdir()
    ran = tmp_path / "ran"
    helper = home / "helper"
    helper.write_text(f"#!/bin/sh\ntouch {ran}\necho username=me\necho password=from-netrc\n")
    helper.chmod(0o755)
    (home / ".gitconfig").write_text(f'[credential]\n\thelper = "{helper}"\n[core]\n\taskPass = {helper}\n')
    (home / ".netrc").write_text("machine 127.0.0.1 login me password from-netrc\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_ASKPASS", str(helper))
    monkeypatch.setenv("SSH_ASKPASS", str(helper))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", f"'credential.helper={helper}'")
    assert (await refusal(anyone, server.url("r"))).code == "repo-not-found"
    assert not ran.exists()


async def test_a_password_in_the_link_opens_and_stays_hidden(server: GitServer, ask: Asker, tmp_path: Path) -> None:
    inner = server.repository("inner")
    pinned = inner.commit({"i": "inner"})
    repository = server.repository("r")
    repository.submodule("sub", server.url("inner"), pinned)
    repository.commit({"x": "1"})
    server.user, server.password = "me@home", "pass:wörd/1"
    url = f"http://{quote('me@home', safe='')}:{quote('pass:wörd/1', safe='')}@{server.host}/r"
    seen: list[str] = []
    watching = asyncio.create_task(watch_command_lines(seen))
    repo = await ask.resolve(url)
    into = await ask.fetch(repo, tmp_path / "into")
    watching.cancel()
    assert (into / "x").read_text() == "1"
    assert (into / "sub/i").read_text() == "inner"
    assert repo.private
    assert repo.url == repo.slug == server.url("r")
    assert any("ls-remote" in line for line in seen)
    kept = [path.read_bytes() for path in into.rglob("*") if path.is_file()]
    escaped = quote("pass:wörd/1", safe="")
    for text in ("pass:wörd/1", escaped, quote(escaped, safe="")):
        assert text not in repr(repo) + ask.log.text + "".join(seen)
        assert not any(text.encode() in content for content in kept)


async def watch_command_lines(seen: list[str]) -> None:
    while True:
        for child in psutil.Process().children(recursive=True):
            try:
                seen.append(" ".join(child.cmdline()))
            except psutil.Error:
                continue
        await asyncio.sleep(0.002)


async def test_a_password_is_for_its_host_only(anyone: Anyone, tmp_path: Path) -> None:
    """A submodule on another host is asked for without the password."""
    async with GitServer.running(tmp_path / "a") as here, GitServer.running(tmp_path / "b") as elsewhere:
        pinned = elsewhere.repository("inner").commit({"i": "inner"})
        repository = here.repository("r")
        repository.submodule("sub", elsewhere.url("inner"), pinned)
        repository.commit({"x": "1"})
        for server in (here, elsewhere):
            server.user, server.password = "me", "one-password"
        repo = await anyone.resolve(f"http://me:one-password@{here.host}/r")
        with pytest.raises(UserError) as caught:
            await anyone.fetch(repo, tmp_path / "into")
        assert caught.value.code == "submodule-not-found"
        assert elsewhere.requests


@pytest.mark.parametrize("single_commits", [True, False])
async def test_fetches_the_very_commit(server: GitServer, anyone: Anyone, tmp_path: Path, single_commits: bool) -> None:
    server.single_commits = single_commits
    repository = server.repository("r")
    repository.commit({"x": "0"})
    sha = repository.commit({"x": "1", "run": "#!/bin/sh\n", "deep/er/ü": b"\0\xff"})
    (repository.folder / "out").symlink_to("/etc/passwd")
    linked = repository.commit()
    repository.commit({"x": "2"})
    into = await anyone.fetch(await anyone.resolve(server.url("r"), sha), tmp_path / "into")
    assert (into / "x").read_text() == "1"
    assert (into / "deep/er/ü").read_bytes() == b"\0\xff"
    assert (into / "run").stat().st_mode & stat.S_IXUSR
    assert Repository(into).git("rev-list", "--count", "HEAD") == "2"
    into = await anyone.fetch(await anyone.resolve(server.url("r"), linked), tmp_path / "linked")
    assert (into / "out").readlink() == Path("/etc/passwd")


async def test_fetched_repository_is_as_git_clone_leaves_it(server: GitServer, ask: Asker, tmp_path: Path) -> None:
    repository = server.repository("r")
    repository.commit({"x": "1"})
    repository.tag("v1.0", annotated=True)
    repository.branch("other")
    repository.commit({"x": "other"})
    repository.tag("elsewhere")
    repository.switch("main")
    sha = repository.commit({"x": "2"})
    url = f"http://me:a-password@{server.host}/r"
    server.user, server.password = "me", "a-password"
    into = Repository(await ask.fetch(await ask.resolve(url), tmp_path / "into"))
    assert into.git("log", "--format=%H").splitlines()[0] == sha
    assert into.git("describe", "--tags") == f"v1.0-1-g{sha[:7]}"
    assert into.git("tag").split() == ["elsewhere", "v1.0"]
    assert into.git("status", "--branch", "--porcelain=v1") == "## main...origin/main"
    branches = into.git("branch", "--remotes", "--format=%(refname)").split()
    assert branches == [f"refs/remotes/origin/{name}" for name in ("HEAD", "main", "other")]
    assert into.git("remote", "get-url", "origin") == server.url("r")
    config = (into.folder / ".git/config").read_text()
    assert "a-password" not in config
    assert "mirror" not in config
    into.git("checkout", "-q", "other")
    assert into.git("rev-parse", "--abbrev-ref", "@{upstream}") == "origin/other"
    assert (into.folder / "x").read_text() == "other"


async def test_fetched_old_commit_is_detached(server: GitServer, ask: Asker, tmp_path: Path) -> None:
    repository = server.repository("r")
    old = repository.commit({"x": "1"})
    new = repository.commit({"x": "2"})
    into = Repository(await ask.fetch(await ask.resolve(server.url("r"), old), tmp_path / "into"))
    assert into.git("status", "--branch", "--porcelain=v1") == "## HEAD (no branch)"
    assert into.git("rev-parse", "HEAD", "origin/main").split() == [old, new]


async def test_commit_on_no_branch_has_its_history(server: GitServer, anyone: Anyone, tmp_path: Path) -> None:
    repository = server.repository("r")
    repository.commit({"x": "1"})
    repository.branch("pull")
    pull = repository.commit({"x": "pull"})
    repository.git("update-ref", "refs/pull/5/head", pull)
    repository.switch("main")
    repository.git("branch", "-q", "-D", "pull")
    into = Repository(await anyone.fetch(await anyone.resolve(server.url("r"), pull), tmp_path / "into"))
    assert (into.folder / "x").read_text() == "pull"
    assert into.git("rev-list", "--count", "HEAD") == "2"
    server.single_commits = False
    repository.git("update-ref", "-d", "refs/pull/5/head")
    with pytest.raises(UserError, match="does not give out that commit") as caught:
        await anyone.fetch(await anyone.resolve(server.url("r"), pull), tmp_path / "refused")
    assert caught.value.code == "ref-not-found"


async def test_server_of_plain_files_gives_all_history(ask: Asker, tmp_path: Path) -> None:
    """What git calls a dumb server."""
    repository = Repository.make(tmp_path / "served/r")
    repository.commit({"x": "1"})
    sha = repository.commit({"x": "2"})
    repository.commit({"x": "3"})
    repository.git("update-server-info")
    app = web.Application()
    app.router.add_static("/", repository.folder / ".git")
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        into = await ask.fetch(await ask.resolve(f"{url}./", sha), tmp_path / "into")
    finally:
        await runner.cleanup()
    assert (into / "x").read_text() == "2"
    assert Repository(into).git("rev-list", "--count", "HEAD") == "2"


async def test_a_commit_that_is_not_there(server: GitServer, ask: Asker, tmp_path: Path) -> None:
    server.repository("r").commit({"x": "1"})
    repo = await ask.resolve(server.url("r"), "0" * 39 + "1")
    with pytest.raises(UserError) as caught:
        await ask.fetch(repo, tmp_path / "into")
    assert caught.value.code == "ref-not-found"


async def test_submodules(server: GitServer, ask: Asker, tmp_path: Path) -> None:
    leaf = server.repository("group/leaf").commit({"l": "leaf"})
    inner = server.repository("group/inner")
    inner.submodule("leaf", "../leaf", leaf)
    pinned = inner.commit({"i": "pinned"})
    inner.commit({"i": "later"})
    outer = server.repository("group/outer")
    outer.submodule("a/inner", "../inner", pinned)
    outer.commit({"o": "outer"})
    for single_commits in (True, False):
        server.single_commits = single_commits
        into = await ask.fetch(await ask.resolve(server.url("group/outer")), tmp_path / f"{single_commits}")
        assert (into / "a/inner/i").read_text() == "pinned"
        assert (into / "a/inner/leaf/l").read_text() == "leaf"


@pytest.mark.parametrize(("number", "depth"), [(3, 9), (9, 2)])
async def test_submodules_beyond_a_limit_are_refused(
    server: GitServer, anyone: Anyone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, depth: int
) -> None:
    """What an attacker multiplies: one repository named several times, in several levels."""
    commit = server.repository("level0").commit({"x": "1"})
    for level in (1, 2, 3):
        repository = server.repository(f"level{level}")
        repository.submodule("a", server.url(f"level{level - 1}"), commit)
        if level == 1:
            repository.submodule("b", server.url("level0"), commit)
        commit = repository.commit({"x": "1"})
    repo = await anyone.resolve(server.url("level3"))
    monkeypatch.setattr("ringbinder.git.remote._MAX_SUBMODULES", 4)
    monkeypatch.setattr("ringbinder.git.remote._MAX_DEPTH", 3)
    assert (await anyone.fetch(repo, tmp_path / "all") / "a/a/b/x").is_file()
    monkeypatch.setattr("ringbinder.git.remote._MAX_SUBMODULES", number)
    monkeypatch.setattr("ringbinder.git.remote._MAX_DEPTH", depth)
    with pytest.raises(UserError, match=f"at most {number} in all, and {depth} within each other") as caught:
        await anyone.fetch(repo, tmp_path / "some")
    assert caught.value.code == "repo-too-large"


async def test_submodules_have_their_history_and_tags(server: GitServer, anyone: Anyone, tmp_path: Path) -> None:
    inner = server.repository("inner")
    inner.commit({"i": "1"})
    inner.tag("v2.0", annotated=True)
    pinned = inner.commit({"i": "2"})
    inner.commit({"i": "3"})
    outer = server.repository("outer")
    outer.submodule("a*", server.url("inner"), pinned)
    outer.commit({"o": "1"})
    into = await anyone.fetch(await anyone.resolve(server.url("outer")), tmp_path / "into")
    assert Repository(into / "a*").git("describe") == f"v2.0-1-g{pinned[:7]}"


async def test_failing_submodule_is_named_with_its_address(server: GitServer, ask: Asker, tmp_path: Path) -> None:
    pinned = server.repository("inner").commit({"i": "1"})
    middle = server.repository("middle")
    middle.submodule("deep/gone", server.url("gone"), pinned)
    middle.submodule("lost", server.url("inner"), "0" * 39 + "1")
    gone = middle.commit({"m": "1"})
    middle.git("rm", "-q", "--cached", "deep/gone")
    lost = middle.commit()
    for n, (commit, path, reason) in enumerate(
        [
            (gone, "deep/gone", f"{server.url('gone')} was not found or is private."),
            (lost, "lost", f"{server.url('inner')} does not give out that commit."),
        ]
    ):
        outer = server.repository(f"outer{n}")
        outer.submodule("lib", server.url("middle"), commit)
        outer.commit({"o": "1"})
        url = server.url(f"outer{n}")
        with pytest.raises(UserError) as caught:
            await ask.fetch(await ask.resolve(url), tmp_path / f"into{n}")
        assert caught.value.code == "submodule-not-found"
        assert caught.value.message.startswith(f"The submodule lib/{path} of {url} cannot be fetched. {reason}")


async def test_submodule_without_address_stays_empty(server: GitServer, ask: Asker, tmp_path: Path) -> None:
    pinned = server.repository("inner").commit({"i": "1"})
    outer = server.repository("outer")
    outer.submodule("inner", server.url("inner"), pinned)
    outer.submodule("stray", server.url("inner"), pinned)
    outer.git("config", "--file", ".gitmodules", "--remove-section", "submodule.stray")
    outer.commit({"o": "1"})
    into = await ask.fetch(await ask.resolve(server.url("outer")), tmp_path / "into")
    assert (into / "inner/i").read_text() == "1"
    assert not any((into / "stray").iterdir())
    assert "The submodule stray is not in .gitmodules" in ask.log.text


async def test_a_submodule_may_not_be_a_path(server: GitServer, anyone: Anyone, tmp_path: Path) -> None:
    secret = Repository.make(tmp_path / "secret")
    pinned = secret.commit({"s": "not for strangers"})
    for n, url in enumerate((secret.folder.as_uri(), str(secret.folder), f"ext::git upload-pack {secret.folder}")):
        repository = server.repository(f"r{n}")
        repository.submodule("s", url, pinned)
        repository.commit({"x": "1"})
        with pytest.raises(UserError) as caught:
            await anyone.fetch(await anyone.resolve(server.url(f"r{n}")), tmp_path / f"into{n}")
        assert caught.value.code == "submodule-not-found"
        assert not (tmp_path / f"into{n}/s/s").exists()


async def test_hooks_and_filters_of_a_repository_do_not_run(server: GitServer, anyone: Anyone, tmp_path: Path) -> None:
    repository = server.repository("r")
    ran = tmp_path / "ran"
    repository.commit(
        {
            ".gitattributes": "* filter=x\n",
            ".gitconfig": f'[filter "x"]\n\tsmudge = touch {ran}\n',
            ".git-hooks/post-checkout": f"#!/bin/sh\ntouch {ran}\n",
            "x": "1",
        }
    )
    into = await anyone.fetch(await anyone.resolve(server.url("r")), tmp_path / "into")
    assert (into / "x").read_text() == "1"
    assert not ran.exists()


async def test_ssh_never_asks_and_has_no_keys(ask: Asker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An `ssh` of the test shows how it was called."""
    shown = tmp_path / "shown"
    ssh = tmp_path / "bin/ssh"
    ssh.parent.mkdir()
    denied = "git@example.org: Permission denied (publickey)."
    ssh.write_text(f'#!/bin/sh\necho "$SSH_AUTH_SOCK|$*" >> {shown}\necho "{denied}" >&2\nexit 255\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/agent")
    error = await refusal(ask, "git@example.org:a/b.git")
    assert error.code == "repo-not-found"
    assert str(error).endswith("Give its https address: https://example.org/a/b.git.")
    with pytest.raises(UserError):
        await ask.resolve("git@example.org:a/b.git", local=True)
    strangers, ours = (shown.read_text().splitlines()[i] for i in (0, -1))
    assert strangers.startswith("|")
    for option in ("BatchMode=yes", "IdentityAgent=none", "IdentityFile=/dev/null", "-F none"):
        assert option in strangers
    assert ours.startswith("/agent|")
    assert "BatchMode=yes" in ours
    assert "Identity" not in ours


async def test_git_is_not_installed(ask: Asker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PluginError, match="install git"):
        await ask.resolve("https://example.org/x")


async def test_another_sources_repo_is_refused(context: Context, tmp_path: Path) -> None:
    provider = made(GitHubProvider, GitHubOptions(), context)
    repo = Repo("u", FolderSource(tmp_path, "d"), "d", "s", "u", "s")
    with pytest.raises(PluginError, match="FolderSource"):
        await provider.fetch(repo, tmp_path, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("old", ["main", "master"])
async def test_github_old_default_branch(server: GitServer, context: Context, old: str) -> None:
    repository = server.repository("u/r")
    sha = repository.commit({"x": "1"})
    repository.git("branch", "-m", "trunk")
    provider = made(GitHubProvider, GitHubOptions(clone_base_url=server.address, **NO_API), context)
    repo = await provider.resolve(LaunchRequest("gh", f"u/r/{old}"))
    assert repo is not None
    assert repo.ref == sha
    assert len(repo.notices) == 1
    assert ('from "master" to "main"' in repo.notices[0]) == (old == "master")
    assert "u/r/HEAD" in repo.notices[0]
    repository.git("branch", old)
    repo = await provider.resolve(LaunchRequest("gh", f"u/r/{old}"))
    assert repo is not None
    assert not repo.notices


async def test_github_no_rescue_where_there_is_nothing(server: GitServer, context: Context) -> None:
    server.repository("u/empty")
    provider = made(GitHubProvider, GitHubOptions(clone_base_url=server.address, **NO_API), context)
    for spec, code in (("u/empty/main", "ref-not-found"), ("u/none/main", "repo-not-found")):
        with pytest.raises(UserError) as caught:
            await provider.resolve(LaunchRequest("gh", spec))
        assert caught.value.code == code


async def test_github_names(server: GitServer, context: Context) -> None:
    sha = server.repository("some-user/some.repo").commit({"x": "1"})
    options = GitHubOptions(hostname="hub.example", clone_base_url=server.address, **NO_API)
    provider = made(GitHubProvider, options, context)
    repo = await provider.resolve(LaunchRequest("gh", "some-user/some.repo.git/main"))
    source = GitSource(server.url("some-user/some.repo"), sha)
    url = "https://hub.example/some-user/some.repo"
    expected = Repo(url, source, sha, f"some-user/some.repo/{sha}", f"{url}/tree/{sha}", "some-user-some.repo")
    assert repo == expected


async def test_gitlab_names(server: GitServer, context: Context) -> None:
    sha = server.repository("a-b/c/d-e").commit({"x": "1"})
    provider = made(GitLabProvider, GitLabOptions(clone_base_url=server.address, **NO_API), context)
    repo = await provider.resolve(LaunchRequest("gl", "a-b%2Fc%2Fd-e/main"))
    assert repo == Repo(
        "https://gitlab.com/a-b/c/d-e.git",
        GitSource(server.url("a-b/c/d-e.git"), sha),
        sha,
        f"a-b%2Fc%2Fd-e/{sha}",
        f"https://gitlab.com/a-b/c/d-e/tree/{sha}",
        "a_-b-c-d_-e",
    )


async def test_a_server_that_goes_down_while_fetching(server: GitServer, ask: Asker, tmp_path: Path) -> None:
    server.repository("r").commit({"x": "1"})
    repo = await ask.resolve(server.url("r"))
    server.fail(503)
    with pytest.raises(TransientError):
        await ask.fetch(repo, tmp_path / "into")


async def test_the_very_url_is_kept_for_the_image_name(server: GitServer, ask: Asker) -> None:
    server.repository("r").commit({"x": "1"})
    for url in (server.url("r"), server.url("r.git"), server.url("r/")):
        repo = await ask.resolve(url)
        assert repo.slug == repo.url == url
        assert evolve(repo, slug="") != repo


async def test_local_addresses_are_for_the_command_line(ask: Asker, tmp_path: Path) -> None:
    repository = Repository.make(tmp_path / "here")
    sha = repository.commit({"x": "1"})
    for url in (repository.folder.as_uri(), "file://localhost/etc", "FILE:///etc", "file:/etc"):
        assert (await refusal(ask, url)).code == "local-not-allowed"
    for url in (str(repository.folder), "./here", "~/here"):
        with pytest.raises(RingbinderError):
            await ask.resolve(url)
    allowed = ask.configured(GitOptions(allowed_protocols=frozenset({"file"})))
    assert (await allowed.resolve(repository.folder.as_uri())).ref == sha
