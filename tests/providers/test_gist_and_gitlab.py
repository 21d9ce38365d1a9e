"""`gist` and `gl` over the APIs of their hosts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from realparts.providers import made
from ringbinder.errors import Refused, TransientError, UserError
from ringbinder.model import GitSource, LaunchRequest, Link, Repo
from ringbinder.plugins.context import Context
from ringbinder.secret import Secret
from ringbinder.testing.gitserver import GitServer
from ringbinder.testing.hosts import GitHubApiServer, GitLabApiServer
from ringbinder_providers.gist import GistOptions, GistProvider
from ringbinder_providers.gitlab import GitLabOptions, GitLabProvider

pytestmark = pytest.mark.real("git")

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
async def github(server: GitServer) -> AsyncIterator[GitHubApiServer]:
    async with GitHubApiServer.running(git=server) as running:
        yield running


@pytest.fixture
async def gitlab(server: GitServer) -> AsyncIterator[GitLabApiServer]:
    async with GitLabApiServer.running(git=server) as running:
        yield running


def gist_provider(api: GitHubApiServer, context: Context, **options: Any) -> GistProvider:
    where = {"gist_base_url": api.git.address, "api_base_path": api.address, "retry_delay": 0.01}
    return made(GistProvider, GistOptions(**{**where, **options}), context)


def gitlab_provider(api: GitLabApiServer, context: Context, **options: Any) -> GitLabProvider:
    where = {"clone_base_url": api.git.address, "api_base_path": f"{api.address}/api/v4", "retry_delay": 0.01}
    return made(GitLabProvider, GitLabOptions(**{**where, **options}), context)


async def resolved(provider: GistProvider | GitLabProvider, spec: str) -> Repo:
    repo = await provider.resolve(LaunchRequest("x", spec))
    assert repo is not None
    return repo


async def refusal(provider: GistProvider | GitLabProvider, spec: str) -> UserError:
    with pytest.raises(UserError) as caught:
        await resolved(provider, spec)
    return caught.value


async def test_a_gist(github: GitHubApiServer, context: Context) -> None:
    repository = github.git.repository("somebody/abc1")
    shas = [repository.commit({"x": str(n)}) for n in range(40)][::-1]
    github.gists["abc1"] = (True, shas)
    provider = gist_provider(github, context)
    for spec in ("somebody/abc1", "somebody/abc1/", "somebody/abc1/HEAD", "somebody/abc1/main",
                 "somebody/abc1/master"):  # fmt: skip
        assert (await resolved(provider, spec)).ref == shas[0], spec
    for sha in (shas[1], shas[39]):  # the second is not in the list that the API gives
        repo = await resolved(provider, f"somebody/abc1/{sha}")
        page = "https://gist.github.com/somebody/abc1"
        source = GitSource(github.git.url("somebody/abc1.git"), sha)
        assert repo == Repo(f"{page}.git", source, sha, f"somebody/abc1/{sha}", f"{page}/{sha}", "abc1")
    for ref in (SHA, "feature", "0123456"):
        assert (await refusal(provider, f"somebody/abc1/{ref}")).code == "ref-not-found"
    assert (await refusal(provider, "somebody/abc2")).code == "repo-not-found"


async def test_a_gist_is_found_under_its_owner_only(github: GitHubApiServer, context: Context) -> None:
    sha = github.git.repository("evil/abc1").commit({"x": "1"})
    github.gists["abc1"] = (True, [sha])
    listed = gist_provider(github, context, allow_secret_gist=True, banned_specs=[r"^evil/"])
    for provider in (gist_provider(github, context), listed):
        error = await refusal(provider, "good/abc1")
        assert (error.code, "evil/abc1" in error.message) == ("repo-not-found", True)
    assert (await resolved(gist_provider(github, context), "Evil/abc1")).ref == sha
    github.fail(500)
    with pytest.raises(TransientError):  # git would not say whose it is
        await resolved(listed, "good/abc1")


async def test_secret_gists(github: GitHubApiServer, context: Context) -> None:
    sha = github.git.repository("u/5ec").commit({"x": "1"})
    github.gists["5ec"] = (False, [sha])
    closed = gist_provider(github, context)
    opened = gist_provider(github, context, allow_secret_gist=True)
    with pytest.raises(Refused, match="secret"):
        await resolved(closed, "u/5ec")
    assert (await resolved(opened, "u/5ec")).private
    # git cannot tell whether a gist is secret, so it is asked only where that does not matter.
    github.fail(500)
    with pytest.raises(TransientError):
        await resolved(gist_provider(github, context), "u/5ec")
    assert (await resolved(gist_provider(github, context, allow_secret_gist=True), "u/5ec")).ref == sha


@pytest.mark.parametrize("content", [{}, [], {"public": True}, {"public": True, "history": [1, {"version": 2}]}])
async def test_an_answer_that_is_no_gist(github: GitHubApiServer, context: Context, content: Any) -> None:
    github.fail(200, content)
    with pytest.raises((TransientError, Refused)):
        await resolved(gist_provider(github, context), "u/abc")


async def test_a_page_of_a_branch_with_a_slash(gitlab: GitLabApiServer, context: Context) -> None:
    repository = gitlab.git.repository("g/s/p")
    repository.commit({"x": "1"})
    repository.branch("feature/x")
    sha = repository.commit({"folder/x.ipynb": "{}"})
    repository.switch("main")
    provider = gitlab_provider(gitlab, context)
    link = provider.recognize("https://gitlab.com/g/s/p/-/blob/feature/x/folder/x.ipynb?ref_type=heads")
    assert link == Link("git", "g%2Fs%2Fp/feature", "lab/tree/x/folder/x.ipynb")
    repo = await provider.resolve(LaunchRequest("gl", link.spec, link.urlpath))
    assert repo is not None
    assert (repo.ref, repo.urlpath) == (sha, "lab/tree/folder/x.ipynb")
    assert '"feature/x" is meant' in repo.notices[0]
    assert (await refusal(provider, link.spec)).code == "ref-not-found"


@pytest.mark.parametrize(
    ("link", "spec", "urlpath"),
    [
        ("https://gist.github.com/u/a1b2", "u/a1b2/HEAD", ""),
        ("gist.github.com/u/a1b2.git", "u/a1b2/HEAD", ""),
        (f"https://gist.github.com/u/a1b2/{SHA}#file-x-ipynb", f"u/a1b2/{SHA}", ""),
        ("https://gist.github.com/u/a1b2/revisions", "u/a1b2/HEAD", ""),
        (f"https://gist.githubusercontent.com/u/a1b2/raw/{SHA}/x.ipynb", f"u/a1b2/{SHA}", "lab/tree/x.ipynb"),
        ("https://gist.githubusercontent.com/u/a1b2/raw/x.ipynb", "u/a1b2/HEAD", "lab/tree/x.ipynb"),
    ],
)
def test_pages_of_gists(context: Context, link: str, spec: str, urlpath: str) -> None:
    assert made(GistProvider, GistOptions(), context).recognize(link) == Link("git", spec, urlpath)


async def test_gitlab_over_its_api(gitlab: GitLabApiServer, context: Context) -> None:
    repository = gitlab.git.repository("g/s/p")
    sha = repository.commit({"x": "1"})
    repository.tag("v1", annotated=True)
    repository.branch("feature/x")
    provider = gitlab_provider(gitlab, context)
    for ref in ("main", "v1", "feature/x", "feature%2Fx", sha, sha[:8], "HEAD"):
        assert (await resolved(provider, f"g%2Fs%2Fp/{ref}")).ref == sha, ref
    assert gitlab.paths[0] == "/api/v4/projects/g%2Fs%2Fp/repository/commits/main?stats=false"
    assert not gitlab.git.requests
    assert 'Did you mean "feature/x"' in (await refusal(provider, "g%2Fs%2Fp/feature")).message
    assert (await refusal(provider, f"g%2Fs%2Fp/{SHA}")).code == "ref-not-found"
    assert (await refusal(provider, "g%2Fnone/main")).code == "repo-not-found"
    asked = len(gitlab.requests)
    assert (await resolved(provider, "g%2Fs%2Fp/main")).ref == sha
    assert gitlab.requests[asked].status == 304


@pytest.mark.parametrize(
    ("option", "header", "user"),
    [("private_token", "private-token", "binderhub"), ("access_token", "authorization", "oauth2")],
)
async def test_gitlab_tokens(gitlab: GitLabApiServer, context: Context, option: str, header: str, user: str) -> None:
    gitlab.private.add("g/closed")
    sha = gitlab.git.repository("g/closed").commit({"x": "1"})
    gitlab.git.repository("g/open").commit({"x": "1"})
    assert (await refusal(gitlab_provider(gitlab, context), "g%2Fclosed/main")).code == "repo-not-found"
    provider = gitlab_provider(gitlab, context, **{option: Secret(gitlab.token)})
    repo = await resolved(provider, "g%2Fclosed/main")
    assert (repo.ref, repo.private) == (sha, True)
    assert repo.credentials == Secret(f"username={user}\npassword={gitlab.token}")
    assert gitlab.token in gitlab.requests[-1].headers[header]
    assert not any(gitlab.token in path for path in gitlab.paths)
    public = await resolved(provider, "g%2Fopen/main")
    assert (public.private, public.credentials) == (False, None)
    (found,) = await provider.doctor()
    assert found.level == "ok"
    (found,) = await gitlab_provider(gitlab, context, **{option: Secret("wrong-token")}).doctor()
    assert "does not accept the access token" in found.message
    assert "GitLabRepoProvider.private_token" in found.fix


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_gitlab_in_trouble(gitlab: GitLabApiServer, context: Context, status: int) -> None:
    sha = gitlab.git.repository("g/p").commit({"x": "1"})
    gitlab.fail(status, {"message": "no"}, retry_after="30")
    provider = gitlab_provider(gitlab, context)
    assert (await resolved(provider, "g%2Fp/main")).ref == sha
    gitlab.git.fail(503)
    with pytest.raises(TransientError) as caught:
        await resolved(provider, "g%2Fp/main")
    assert caught.value.retry_after == (None if status == 401 else 30)


async def test_unknown_gist_is_not_called_a_repository(github: GitHubApiServer, context: Context) -> None:
    error = await refusal(gist_provider(github, context), "u/abc/HEAD")
    assert error.code == "repo-not-found"
    assert error.message.startswith("The gist u/abc was not found on GitHub or is private")


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("group/project", "group%2Fproject/HEAD"),
        ("group/project/main", "group%2Fproject/main"),
        ("group/sub/project/main", "group%2Fsub%2Fproject/main"),
        ("group/sub%2Fproject/main", "group%2Fsub%2Fproject/main"),
    ],
)
async def test_gitlab_project_that_is_not_encoded_is_suggested(
    gitlab: GitLabApiServer, context: Context, spec: str, meant: str
) -> None:
    error = await refusal(gitlab_provider(gitlab, context), spec)
    assert error.code == "spec-invalid"
    assert f'Did you mean "{meant}"?' in error.message
