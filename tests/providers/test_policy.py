"""What the operator's configuration says about specs and credentials, as it stands in BinderHub's files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from ringbinder.config.loading import load
from ringbinder.config.specs import SpecForms
from ringbinder.errors import ConfigError
from ringbinder.model import DoiSource, Repo
from ringbinder.plugins.context import Context
from ringbinder.runtime.clock import SystemClock
from ringbinder.secret import Secret
from ringbinder.testing.gitserver import GitServer
from ringbinder_providers.git import GitOptions
from ringbinder_providers.github import GitHubOptions, GitHubProvider
from ringbinder_providers.gitlab import GitLabOptions, GitLabProvider

if TYPE_CHECKING:
    from tests.providers.conftest import Asker


def github_options(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> GitHubOptions:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    return load([file], environ=environ or {}).sections.fill(GitHubOptions, GitHubProvider.sections)


def test_quotas_of_specs(tmp_path: Path) -> None:
    options = github_options(
        tmp_path,
        r"""
        RepoProvider: {banned_specs: ["^spam/.*"]}
        GitHubRepoProvider:
          high_quota_specs: ["^jupyterlab/.*", "^ipython/.*"]
          spec_config:
            - {pattern: "^ipython/.*", config: {quota: 200, other: x}}
            - {pattern: "^IPython/demo/.*", config: {quota: 7}}
            - {pattern: "never", config: {quota: 0}}
        """,
    )
    found = Repo("https://x.example", DoiSource("10.5281/x", "1"), "1", "x", "https://x.example", "x")

    def resolved(spec: str) -> Repo:
        return options.applied(found, SpecForms.of(f"{spec}/HEAD"))

    assert resolved("u/r").high_quota is False
    assert resolved("u/r").settings == {}
    high = resolved("ipython/x")
    assert (high.high_quota, high.settings) == (True, {"quota": 200, "other": "x"})
    assert resolved("ipython/demo").settings == {"quota": 7, "other": "x"}
    assert hash(high) != hash(resolved("u/r"))


@pytest.mark.parametrize(
    "text",
    ["GitHubRepoProvider: {spec_config: [{config: {quota: 1}}]}", "GitHubRepoProvider: {spec_config: {a: 1}}",
     "GitHubRepoProvider: {banned_specs: ['(']}", "GitHubRepoProvider: {retries: -1}",
     "GitHubRepoProvider: {git_credentials: 'only-a-password'}",
     "GitHubRepoProvider: {git_credentials: 'username=x'}",
     r"GitHubRepoProvider: {git_credentials: 'username=x\npassword=only-a-password\nhost=y'}"],
)  # fmt: skip
def test_mistakes_are_reported_without_the_secret(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        github_options(tmp_path, text)
    assert "GitHubRepoProvider" in str(caught.value)
    assert "only-a-password" not in str(caught.value)


@pytest.mark.parametrize(
    "written",
    [
        r"'username=me\npassword=a=b c'",
        r'"username=me\npassword=a=b c"',
        '"username=me\\\\npassword=a=b c\\\\n"',
    ],
)
def test_credentials_in_binderhubs_form(tmp_path: Path, written: str) -> None:
    options = github_options(tmp_path, f"RepoProvider: {{git_credentials: {written}}}")
    assert options.git_credentials == Secret("username=me\npassword=a=b c")


def test_a_token_is_for_the_host_that_it_was_given_for(tmp_path: Path, context: Context) -> None:
    """An instance for another host has tokens of its own, or none."""
    file = tmp_path / "config.yaml"
    file.write_text("GitLabRepoProvider: {private_token: for-gitlab-com, hostname: gitlab.com, retries: 5}\n")
    config = load([file], environ={"GITLAB_ACCESS_TOKEN": "also-for-gitlab-com"})
    own = config.sections.fill(GitLabOptions, GitLabProvider.sections)
    assert (own.private_token, own.access_token) == (Secret("for-gitlab-com"), Secret("also-for-gitlab-com"))
    where = "Ringbinder.instances.lab"
    extra = {"hostname": "git.lab.example"}
    lab = config.sections.fill(GitLabOptions, GitLabProvider.sections, extra=extra, where=where)
    assert (lab.hostname, lab.retries) == ("git.lab.example", 5)
    assert not lab.private_token
    assert not lab.access_token
    extra["private_token"] = "for-the-lab"
    lab = config.sections.fill(GitLabOptions, GitLabProvider.sections, extra=extra, where=where)
    assert lab.private_token == Secret("for-the-lab")
    github = github_options(tmp_path, "GitHubRepoProvider: {}", {"GITHUB_ACCESS_TOKEN": "from-environment"})
    assert github.access_token == Secret("from-environment")


@pytest.mark.real("git")
async def test_the_operators_credentials_open_a_branch(server: GitServer, ask: Asker, tmp_path: Path) -> None:
    sha = server.repository("closed").commit({"x": "closed"})
    credentials = Secret(r"username=deploy\npassword=deploy-password")
    asker = ask.configured(GitOptions(git_credentials=credentials))
    # What anybody may read is handed on without the credentials.
    public = await asker.resolve(server.url("closed"), "main")
    assert (public.private, public.credentials) == (False, None)
    server.user, server.password = "deploy", "deploy-password"
    repo = await asker.resolve(server.url("closed"), "main")
    assert (repo.ref, repo.private) == (sha, True)
    assert repo.credentials == Secret("username=deploy\npassword=deploy-password")
    assert (await asker.fetch(repo, tmp_path / "into") / "x").read_text() == "closed"
    assert "deploy-password" not in asker.log.text + repr(repo)


@pytest.mark.real("git")
async def test_credentials_for_certain_hosts(server: GitServer, ask: Asker) -> None:
    server.repository("closed").commit({"x": "closed"})
    server.user, server.password = "deploy", "deploy-password"
    credentials = Secret(r"username=deploy\npassword=deploy-password")
    url = server.url("closed")
    for host, opens in ((server.host, True), ("127.0.0.1", False), ("other.example", False)):
        options = GitOptions(git_credentials=credentials, credential_hosts=frozenset({host}))
        provider = ask.configured(options)
        if opens:
            assert (await provider.resolve(url, "main")).private
        else:
            with pytest.raises(Exception, match="not found or is private"):
                await provider.resolve(url, "main")
        assert [found.level for found in await provider.provider.doctor()] == ["ok"]
    careless = ask.configured(GitOptions(git_credentials=credentials))
    assert "every host" in (await careless.provider.doctor())[-1].message


@pytest.mark.real("git")
async def test_a_passing_failure_of_git_is_not_noticed(server: GitServer, ask: Asker) -> None:
    sha = server.repository("r").commit({"x": "1"})
    server.fail(503)

    class Mended(SystemClock):
        async def sleep(self, seconds: float) -> None:
            server.fail(0)

    ask.provider.context.services.clock = Mended()
    assert (await ask.configured(GitOptions()).resolve(server.url("r"), "main")).ref == sha
    assert quote(sha) in (await ask.resolve(server.url("r"))).resolved_spec
