"""`gh` over GitHub's API, and what it does when the API does not help."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from realparts.providers import made
from ringbinder.errors import TransientError, UserError
from ringbinder.model import LaunchRequest, Repo
from ringbinder.plugins.context import Context
from ringbinder.secret import Secret
from ringbinder.testing import RecordingLog
from ringbinder.testing.gitserver import GitServer
from ringbinder.testing.hosts import GitHubApiServer
from ringbinder_providers.gist import GistOptions, GistProvider
from ringbinder_providers.github import GitHubOptions, GitHubProvider

if TYPE_CHECKING:
    from realparts.turned import TurnedClock

pytestmark = pytest.mark.real("git")

GAUGE = "binderhub_github_rate_limit_remaining"


@pytest.fixture
async def api(server: GitServer) -> AsyncIterator[GitHubApiServer]:
    async with GitHubApiServer.running(git=server) as running:
        yield running


class GitHub:
    """The provider `gh` at the stand-ins, with one repository `u/r`."""

    def __init__(self, api: GitHubApiServer, context: Context) -> None:
        self.api = api
        self.context = context
        self.repository = api.git.repository("u/r")
        self.sha = self.repository.commit({"x": "1"})
        self.provider = self.configured()

    def configured(self, **options: Any) -> GitHubProvider:
        options = {"retry_delay": 0.01, **options}
        self.provider = made(
            GitHubProvider,
            GitHubOptions(clone_base_url=self.api.git.address, api_base_path=f"{self.api.address}/", **options),
            self.context,
        )
        return self.provider

    async def resolve(self, spec: str = "u/r/main") -> Repo:
        repo = await self.provider.resolve(LaunchRequest("gh", spec))
        assert repo is not None
        return repo

    async def refusal(self, spec: str) -> UserError:
        with pytest.raises(UserError) as caught:
            await self.resolve(spec)
        return caught.value

    @property
    def remaining(self) -> float | None:
        return self.context.services.metrics.registry.get_sample_value(GAUGE)


@pytest.fixture
def hub(api: GitHubApiServer, context: Context) -> GitHub:
    return GitHub(api, context)


async def test_every_kind_of_ref_without_git(hub: GitHub) -> None:
    hub.repository.tag("v1", annotated=True)
    hub.repository.branch("feature/x")
    second = hub.repository.commit({"x": "2"})
    hub.repository.switch("main")
    for ref, sha in {
        "main": hub.sha, "HEAD": hub.sha, "v1": hub.sha, "feature/x": second, hub.sha[:9]: hub.sha,
        second: second, "refs/heads/feature/x": second,
    }.items():  # fmt: skip
        repo = await hub.resolve(f"u/r/{ref}")
        assert repo.ref == sha, ref
        assert repo.resolved_spec == f"u/r/{sha}"
        assert not repo.private
        assert repo.credentials is None
    assert not hub.api.git.requests


async def test_an_enterprise_server(server: GitServer, context: Context) -> None:
    """All its addresses come of `hostname`; its API stands below a path."""

    class Enterprise(GitHubApiServer):
        def content(self, path: str, request: web.Request) -> Any:
            inner = path.removeprefix("/api/v3/")
            return super().content(inner, request) if inner != path else None

    sha = server.repository("Org/re.po").commit({"x": "1"})
    async with Enterprise.running(git=server, private={"Org/re.po"}) as enterprise:
        host = enterprise.address.removeprefix("http://")
        options = GitHubOptions(
            hostname=host,
            api_base_path="http://{hostname}/api/v3",
            clone_base_url=server.address,
            access_token=Secret(enterprise.token),
        )
        provider = made(GitHubProvider, options, context)
        link = provider.recognize(f"http://{host}/Org/re.po/blob/main/x")
        assert link is not None
        repo = await provider.resolve(LaunchRequest("gh", link.spec, link.urlpath))
        assert repo is not None
        assert (repo.ref, repo.private) == (sha, True)
        assert (repo.url, repo.ref_url) == (
            f"https://{host}/Org/re.po",
            f"https://{host}/Org/re.po/tree/{sha}",
        )
        assert {path.partition("?")[0] for path in enterprise.paths} == {
            "/api/v3/repos/Org/re.po/commits/main", "/api/v3/repos/Org/re.po",
        }  # fmt: skip
        assert not server.requests
        [line] = await provider.doctor()
        assert line.level == "ok"
        assert f"GitHub at {host} is reachable and accepts the access token" in line.message
        assert made(GitHubProvider, GitHubOptions(), context).recognize(f"http://{host}/Org/re.po") is None


@pytest.mark.parametrize("spent", [False, True])
async def test_a_page_of_a_branch_whose_name_has_a_slash(hub: GitHub, spent: bool) -> None:
    """The address does not say where the name ends; what exists does."""
    for branch in ("feature/x", "deep/er/still"):
        hub.repository.branch(branch)
        hub.repository.commit({"folder/a b.ipynb": branch})
        hub.repository.switch("main")
    hub.repository.tag("release/1", annotated=True)
    if spent:
        hub.api.quota = 0
    commits = {
        name: hub.repository.git("rev-parse", f"refs/{name}^{{commit}}")
        for name in ("heads/feature/x", "heads/deep/er/still", "tags/release/1")
    }
    folder = "lab/tree/folder/a%20b.ipynb"
    for page, name, opened in (
        ("tree/feature/x", "heads/feature/x", ""),
        ("tree/feature/x/folder", "heads/feature/x", "lab/tree/folder"),
        ("blob/feature/x/folder/a%20b.ipynb", "heads/feature/x", folder),
        ("tree/refs/heads/feature/x/folder", "heads/feature/x", "lab/tree/folder"),
        ("blob/deep/er/still/folder/a%20b.ipynb", "heads/deep/er/still", folder),
        ("tree/release/1/folder", "tags/release/1", "lab/tree/folder"),
        ("blob/feature/x/" + "f/" * 30 + "..ipynb", "heads/feature/x", "lab/tree/" + "f/" * 30 + "..ipynb"),
    ):
        link = hub.provider.recognize(f"https://github.com/u/r/{page}")
        assert link is not None
        repo = await hub.provider.resolve(LaunchRequest("gh", link.spec, link.urlpath))
        assert repo is not None
        assert (repo.ref, repo.urlpath) == (commits[name], opened), page
        assert repo.resolved_spec == f"u/r/{commits[name]}"
        assert f'{name.partition("/")[2]}" is meant' in repo.notices[0]


async def test_a_path_to_open_is_left_alone_where_the_branch_is_there(hub: GitHub) -> None:
    hub.repository.branch("feature/x")
    for urlpath in ("lab/tree/old/x", "doc/tree/a.ipynb#Results", "rstudio", ""):
        repo = await hub.provider.resolve(LaunchRequest("gh", "u/r/main", urlpath))
        assert repo is not None
        assert (repo.ref, repo.urlpath, repo.notices) == (hub.sha, None, ())
    for urlpath in ("rstudio/x", "lab/tree/y", "lab/tree/%00", "lab/tree/..", "lab/tree/*", "lab/tree"):
        with pytest.raises(UserError) as caught:
            await hub.provider.resolve(LaunchRequest("gh", "u/r/feature", urlpath))
        assert 'Did you mean "feature/x"?' in caught.value.message


async def test_a_branch_behind_main_is_meant_before_the_default_branch(hub: GitHub) -> None:
    hub.repository.git("branch", "-m", "main", "trunk")
    hub.repository.git("symbolic-ref", "HEAD", "refs/heads/trunk")
    hub.repository.branch("main/old")
    old = hub.repository.commit({"x": "old"})
    hub.repository.switch("trunk")
    repo = await hub.provider.resolve(LaunchRequest("gh", "u/r/main", "doc/tree/old/x.ipynb"))
    assert repo is not None
    assert (repo.ref, repo.urlpath) == (old, "doc/tree/x.ipynb")
    repo = await hub.provider.resolve(LaunchRequest("gh", "u/r/main", "doc/tree/new/x.ipynb"))
    assert repo is not None
    assert (repo.ref, repo.urlpath) == (hub.sha, None)


async def test_an_answer_that_has_not_changed_costs_no_quota(hub: GitHub) -> None:
    hub.api.quota = 10
    for _ in range(3):
        assert (await hub.resolve()).ref == hub.sha
    assert [seen.status for seen in hub.api.requests] == [200, 304, 304]
    assert hub.api.quota == 9
    assert hub.remaining == 9
    changed = hub.repository.commit({"x": "2"})
    assert (await hub.resolve()).ref == changed
    assert hub.api.quota == 8


async def test_many_who_ask_the_same_are_one_request(hub: GitHub) -> None:
    hub.api.delay = 0.2
    found = await asyncio.gather(*(hub.resolve() for _ in range(30)))
    assert {repo.ref for repo in found} == {hub.sha}
    assert len(hub.api.requests) == 1


async def test_what_is_missing_is_believed_for_a_while(hub: GitHub, clock: TurnedClock) -> None:
    for _ in range(3):
        error = await hub.refusal("u/none/main")
        assert error.code == "repo-not-found"
        assert "check the address and that it is public" in error.message
    assert len(hub.api.requests) == 1
    hub.api.git.repository("u/none").commit({"x": "1"})
    clock.turn(61)
    await hub.resolve("u/none/main")


async def test_an_unknown_ref_shows_what_was_meant(hub: GitHub) -> None:
    hub.repository.branch("feature/x")
    error = await hub.refusal("u/r/feature")
    assert error.code == "ref-not-found"
    assert 'Did you mean "feature/x"?' in error.message
    missing = "0" * 40
    error = await hub.refusal(f"u/r/{missing}")
    assert error.code == "ref-not-found"
    assert missing in error.message


async def test_an_old_default_branch(hub: GitHub) -> None:
    hub.repository.git("branch", "-m", "trunk")
    repo = await hub.resolve("u/r/master")
    assert repo.ref == hub.sha
    assert 'from "master" to "main"' in repo.notices[0]
    hub.api.git.repository("u/empty")
    assert "is empty" in (await hub.refusal("u/empty/main")).message


async def test_spent_quota_means_git_until_the_quota_is_renewed(hub: GitHub, clock: TurnedClock) -> None:
    hub.api.quota, hub.api.reset = 0, time.time() + 600
    assert (await hub.resolve()).ref == hub.sha
    assert hub.api.git.requests
    assert hub.remaining == 0
    asked = len(hub.api.requests)
    await hub.resolve()
    assert len(hub.api.requests) == asked
    hub.api.git.fail(503)
    with pytest.raises(TransientError, match=r"^GitHub rate limit exceeded$") as caught:
        await hub.resolve()
    assert caught.value.retry_after == pytest.approx(600, abs=30)
    clock.turn(700)
    hub.api.quota = 60
    assert (await hub.resolve()).ref == hub.sha
    assert len(hub.api.requests) == asked + 1


@pytest.mark.parametrize("status", [403, 429])
async def test_a_secondary_limit(hub: GitHub, status: int) -> None:
    hub.api.fail(status, {"message": "You have exceeded a secondary rate limit."}, retry_after="77")
    await hub.resolve()
    hub.api.git.fail(500)
    with pytest.raises(TransientError) as caught:
        await hub.resolve()
    assert caught.value.retry_after == pytest.approx(77, abs=10)


@pytest.mark.parametrize(
    "failure",
    [{"status": 500}, {"status": 502, "body": b"<html>"}, {"status": 401}, {"status": 403}, {"status": 451},
     {"status": 200, "body": b'{"sha": '}, {"status": 200, "body": b"[]"}, {"status": 200, "content": {"sha": "x"}},
     {"status": 200, "body": b""}, {"status": 301, "Location": "http://127.0.0.1:1/"}],
)  # fmt: skip
async def test_an_api_in_trouble_is_replaced_by_git(hub: GitHub, failure: dict[str, Any]) -> None:
    hub.api.fail(**failure)
    assert (await hub.resolve()).ref == hub.sha
    assert (await hub.resolve(f"u/r/{hub.sha}")).ref == hub.sha
    error = await hub.refusal("u/r/none")
    assert error.code == "ref-not-found"
    assert (await hub.refusal("u/none/main")).code == "repo-not-found"


async def test_a_passing_failure_is_not_noticed(hub: GitHub) -> None:
    hub.api.fail(503, times=2)
    assert (await hub.resolve()).ref == hub.sha
    assert [seen.status for seen in hub.api.requests] == [503, 503, 200]
    assert not hub.api.git.requests


async def test_a_slow_api(hub: GitHub) -> None:
    hub.configured(api_timeout=0.3)
    async with hub.api.stalled():
        assert (await hub.resolve()).ref == hub.sha
        hub.api.git.fail(503)
        with pytest.raises(TransientError, match=r"did not answer within 0\.3 seconds"):
            await hub.resolve()


async def test_a_token_opens_what_is_private(hub: GitHub, tmp_path: Path) -> None:
    hub.api.private.add("u/closed")
    closed = hub.api.git.repository("u/closed").commit({"x": "closed"})
    assert (await hub.refusal("u/closed/main")).code == "repo-not-found"
    token = hub.api.token
    hub.configured(access_token=Secret(token))
    repo = await hub.resolve("u/closed/main")
    assert repo.ref == closed
    assert repo.private
    assert repo.credentials == Secret(f"username={token}\npassword=x-oauth-basic")
    hub.api.git.user, hub.api.git.password = token, "x-oauth-basic"
    (tmp_path / "into").mkdir()
    await hub.provider.fetch(repo, tmp_path / "into", RecordingLog())
    assert (tmp_path / "into/x").read_text() == "closed"
    public = await hub.resolve()
    assert not public.private
    assert public.credentials is None
    hub.api.fail(500)
    unclear = await hub.resolve("u/closed/main")
    assert (unclear.ref, unclear.private) == (closed, True)
    assert unclear.credentials is not None


async def test_user_agent_names_us(hub: GitHub) -> None:
    async def authorization(**options: Any) -> str | None:
        hub.configured(**options)
        await hub.resolve()
        assert hub.api.requests[-1].headers["user-agent"] == "Ringbinder"
        return hub.api.requests[-1].headers.get("authorization")

    app = {"client_id": "an-app", "client_secret": Secret("its-secret")}
    assert await authorization() is None
    assert await authorization(**app) == "Basic " + base64.b64encode(b"an-app:its-secret").decode()
    token = {"access_token": Secret(hub.api.token)}
    assert await authorization(**token, **app) == f"token {hub.api.token}"
    assert hub.provider.token_credentials() == Secret(f"username=an-app\npassword={hub.api.token}")


async def test_operators_credentials_open_what_the_api_hides(hub: GitHub) -> None:
    hub.api.private.add("u/r")
    hub.api.git.user, hub.api.git.password = "deploy", "deploy-password"
    hub.configured(git_credentials=Secret(r"username=deploy\npassword=deploy-password"))
    repo = await hub.resolve()
    assert repo.ref == hub.sha
    assert repo.private
    assert repo.credentials == Secret("username=deploy\npassword=deploy-password")


async def test_gists_count_on_the_same_gauge(hub: GitHub) -> None:
    sha = hub.api.git.repository("u/abc").commit({"x": "1"})
    hub.api.gists["abc"] = (True, [sha])
    options = GistOptions(gist_base_url=hub.api.git.address, api_base_path=hub.api.address)
    gist = made(GistProvider, options, hub.context)
    hub.api.quota = 10
    await hub.resolve()
    await gist.resolve(LaunchRequest("gist", "u/abc"))
    assert hub.remaining == 8


async def test_doctor(hub: GitHub) -> None:
    async def line(**options: Any) -> tuple[str, str, str]:
        (found,) = await hub.configured(**options).doctor()
        assert hub.api.token not in f"{found}"
        return found.level, found.message, found.fix

    right, wrong = Secret(hub.api.token), Secret("not-the-right-one")
    level, message, _ = await line(access_token=right)
    assert (level, "accepts the access token; it sets no quota" in message) == ("ok", True)
    hub.api.quota = 42
    level, message, fix = await line()
    assert (level, "41 of 60" in message) == ("warning", True)
    assert "GITHUB_ACCESS_TOKEN" in fix
    level, message, _ = await line(access_token=right)
    assert (level, "accepts the access token; 40 of 60" in message) == ("ok", True)
    level, message, fix = await line(access_token=wrong)
    assert (level, "does not accept the access token" in message) == ("error", True)
    assert "Make a new token there, and set GitHubRepoProvider.access_token" in fix
    hub.api.quota, hub.api.reset = 0, hub.context.clock.time() + 601
    level, message, fix = await line()
    assert (level, "rate limit exceeded" in message) == ("warning", True)
    assert "Wait 11 min, or set GitHubRepoProvider.access_token" in fix
    assert "or set" not in (await line(access_token=right))[2]
    hub.api.fail(500)
    level, _, fix = await line()
    assert (level, "Check that this machine may reach GitHub" in fix) == ("error", True)


@pytest.mark.parametrize(
    ("status", "reason", "notice"),
    [
        (451, "dmca", "https://github.com/github/dmca/blob/master/2021/04/2021-04-20-x.md"),
        (403, "tos", "https://github.com/contact"),
    ],
)
async def test_blocked_repository_is_refused_with_the_notice(
    hub: GitHub, status: int, reason: str, notice: str
) -> None:
    """Source: GitHub's answers, as public bug reports have them."""
    block = {"reason": reason, "created_at": "2021-04-22T17:53:56Z", "html_url": notice}
    hub.api.fail(status, {"message": "Repository access blocked", "block": block})
    error = await hub.refusal("u/r/main")
    assert error.code == "repo-not-found"
    assert error.message == f"GitHub has blocked access to this repository ({reason}, {notice})."
    assert not hub.api.git.requests
