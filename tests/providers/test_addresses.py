"""Specs and pasted addresses: what they mean, and that nothing breaks the parsers."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from realparts.providers import made
from ringbinder.config.specs import SpecForms
from ringbinder.errors import Refused, UserError
from ringbinder.git import parse_address, ref_name
from ringbinder.model import Link
from ringbinder.plugins.context import Context
from ringbinder.runtime.patterns import Pattern
from ringbinder.testing import make_context
from ringbinder_providers import gist, github, gitlab, zenodo
from ringbinder_providers.gist import GistOptions, GistProvider
from ringbinder_providers.git import GitOptions, GitProvider
from ringbinder_providers.github import GitHubOptions, GitHubProvider
from ringbinder_providers.gitlab import GitLabOptions, GitLabProvider
from ringbinder_providers.zenodo import ZenodoOptions, ZenodoProvider


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return make_context(tmp_path, "x")


@pytest.mark.parametrize(
    ("text", "url", "credentials"),
    [
        ("https://git.example.org/a/b.git", "https://git.example.org/a/b.git", None),
        ("http://localhost:8080/a", "http://localhost:8080/a", None),
        ("git://example.org/a", "git://example.org/a", None),
        ("ssh://git@example.org:22/a", "ssh://git@example.org:22/a", None),
        ("git@example.org:a/b.git", "ssh://git@example.org/a/b.git", None),
        ("http://[::1]:80/a", "http://[::1]:80/a", None),
        ("https://me:pa%40ss@example.org/a", "https://example.org/a", "username=me\npassword=pa@ss"),
        ("https://tok@example.org/a", "https://example.org/a", "username=tok\npassword=x-oauth-basic"),
        ("https://a:b@c@example.org/a", "https://example.org/a", "username=a\npassword=b@c"),
    ],
)
def test_an_address_is_freed_of_credentials(text: str, url: str, credentials: str | None) -> None:
    found = parse_address(text)
    assert found.url == url
    assert (found.credentials and found.credentials.reveal()) == credentials


@pytest.mark.parametrize(
    "text",
    [
        "ext::sh -c id", "fd::17", "file:///etc", "ftp://example.org/x", "//example.org/x",
         "example.org/x", "/etc", "C:\\x",
        "https://", "https:///x", "https://example.org", "https://example.org/", "https://example.org:0x50/x",
        "https://-oProxyCommand=id/x", "ssh://-oProxyCommand=id/x", "ssh://-oX@example.org/x",
         "http://[::1/x",
        "ssh://git:secret-word@example.org/x", "git://me@example.org/x", "https://a%0ab:c@example.org/x",
         "@:", "https://exa\nmple.org/x", "https://example.org/x\ty", "https://me:secret-\nword@example.org/x",
    ],
)  # fmt: skip
def test_a_hostile_address_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_address(text)
    assert caught.value.code == "spec-invalid"
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize(
    "ref", ["main", "HEAD", "v1.0", "feature/x", "a" * 40, "refs/heads/x", "pull/5/head", "ü", "a@b"]
)
def test_refs(ref: str) -> None:
    assert ref_name(quote(ref)) == ref


@pytest.mark.parametrize(
    "ref",
    ["", "-x", "--all", "a..b", "a b", "a~1", "a^", "a:b", "a*", "a?", "a[b", "a\\b", "@{1}", "x.lock",
     "a.lock/b", ".x", "a/.b", "x/", "/x", "a//b",
     "x.", "@", "a\nb", "\x7f", "x" * 3000],
)  # fmt: skip
def test_what_can_be_no_ref(ref: str) -> None:
    with pytest.raises(UserError):
        ref_name(quote(ref))


def test_github_spec_errors_are_binderhubs() -> None:
    def message(spec: str) -> str:
        with pytest.raises(UserError) as caught:
            github.parse(spec)
        return str(caught.value)

    form = 'Spec is not of the form "user/repo/ref", provided: '
    assert message("x") == f'{form}"x".'
    assert message("a/b") == f'{form}"a/b". Did you mean "a/b/HEAD"?'
    assert message("a/main") == f'{form}"a/main".'
    assert message("a/b/") == f'{form}"a/b/". Did you mean "a/b/HEAD"?'


def test_github_spec() -> None:
    assert github.parse("u/r.git/feature/x") == github.Spec("u", "r", "feature/x")
    assert github.parse("u/r/feature%2Fx") == github.Spec("u", "r", "feature/x")
    for bad in ("u/../HEAD", "%2e%2e/r/HEAD", "u%2Fx/r/HEAD", "ü/r/HEAD", "u/r%00/HEAD"):
        with pytest.raises(UserError):
            github.parse(bad)


def test_gitlab_spec() -> None:
    assert gitlab.parse("g%2Fs%2Fp/a/b") == gitlab.Spec("g/s/p", "a/b", "g%2Fs%2Fp")
    with pytest.raises(UserError, match=re.escape('Did you mean "g%2Fp/main"?')):
        gitlab.parse("g/p/main")
    with pytest.raises(UserError, match=re.escape('Did you mean "g%2Fp/HEAD"?')):
        gitlab.parse("g%2Fp")


SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("link", "spec", "urlpath"),
    [
        ("https://github.com/u/r", "u/r/HEAD", ""),
        ("http://www.github.com/u/r/", "u/r/HEAD", ""),
        ("github.com/u/r", "u/r/HEAD", ""),
        ("https://github.com/u/r.git", "u/r/HEAD", ""),
        ("  https://GitHub.com/u/r?tab=readme#top ", "u/r/HEAD", ""),
        ("https://github.com/u/r/tree/main", "u/r/main", ""),
        ("https://github.com/u/r/tree/main/a/b", "u/r/main", "lab/tree/a/b"),
        ("https://github.com/u/r/tree/feature%2Fx/a", "u/r/feature/x", "lab/tree/a"),
        ("https://github.com/u/r/blob/v1/a/My%20Book.ipynb", "u/r/v1", "lab/tree/a/My%20Book.ipynb"),
        ("https://github.com/u/r/blob/refs/heads/main/x.ipynb", "u/r/refs/heads/main", "lab/tree/x.ipynb"),
        (f"https://github.com/u/r/commit/{SHA}", f"u/r/{SHA}", ""),
        ("https://github.com/u/r/releases/tag/v1/2", "u/r/v1/2", ""),
        ("https://github.com/u/r/pull/7/files", "u/r/refs/pull/7/head", ""),
        ("https://github.com/u/r/issues/7", "u/r/HEAD", ""),
        ("https://github.com/u/r/tree", "u/r/HEAD", ""),
        ("git@github.com:u/r.git", "u/r/HEAD", ""),
        ("ssh://git@github.com/u/r.git", "u/r/HEAD", ""),
        ("https://raw.githubusercontent.com/u/r/main/a/x.ipynb", "u/r/main", "lab/tree/a/x.ipynb"),
        ("https://raw.githubusercontent.com/u/r/refs/heads/main/x.py", "u/r/refs/heads/main",
         "lab/tree/x.py"),
    ],
)  # fmt: skip
def test_github_pages(context: Context, link: str, spec: str, urlpath: str) -> None:
    assert made(GitHubProvider, GitHubOptions(), context).recognize(link) == Link("x", spec, urlpath)


@pytest.mark.parametrize(
    "link",
    ["https://github.com/u", "https://github.com/", "https://github.com.evil.org/u/r",
     "https://gist.github.com/u/1", "https://u:p@github.com/u/r",
     "https://evil.org/github.com/u/r", "https://github.com/../r", "https://github.com/u/%2e%2e/x", "u/r",
      "gh/u/r", "", "https://raw.githubusercontent.com/u/r"],
)  # fmt: skip
def test_not_githubs(context: Context, link: str) -> None:
    assert made(GitHubProvider, GitHubOptions(), context).recognize(link) is None


@pytest.mark.parametrize(
    ("link", "spec", "urlpath"),
    [
        ("https://gitlab.com/g/p", "g%2Fp/HEAD", ""),
        ("https://gitlab.com/g/s/t/p.git", "g%2Fs%2Ft%2Fp/HEAD", ""),
        ("https://gitlab.com/g/s/p/-/tree/main/a/b?ref_type=heads", "g%2Fs%2Fp/main", "lab/tree/a/b"),
        ("https://gitlab.com/g/p/-/blob/v1/x.ipynb", "g%2Fp/v1", "lab/tree/x.ipynb"),
        ("https://gitlab.com/g/p/tree/master/a", "g%2Fp/master", "lab/tree/a"),
        ("https://gitlab.com/g/p/-/tags/v1", "g%2Fp/v1", ""),
        (f"https://gitlab.com/g/p/-/commit/{SHA}", f"g%2Fp/{SHA}", ""),
        ("https://gitlab.com/g/p/-/merge_requests/3/diffs", "g%2Fp/refs/merge-requests/3/head", ""),
        ("https://gitlab.com/g/p/-/issues", "g%2Fp/HEAD", ""),
        ("git@gitlab.com:g/s/p.git", "g%2Fs%2Fp/HEAD", ""),
    ],
)  # fmt: skip
def test_gitlab_pages(context: Context, link: str, spec: str, urlpath: str) -> None:
    assert made(GitLabProvider, GitLabOptions(), context).recognize(link) == Link("x", spec, urlpath)


def test_another_host(context: Context) -> None:
    hub = made(GitHubProvider, GitHubOptions(hostname="git.lab.example"), context)
    assert hub.recognize("https://git.lab.example/u/r") == Link("x", "u/r/HEAD")
    assert hub.recognize("https://github.com/u/r") is None
    assert hub.recognize("https://raw.githubusercontent.com/u/r/main/x") is None


def test_local_links(context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/some body")
    provider = made(GitProvider, GitOptions(), context)

    def opened(link: str) -> tuple[str, str]:
        found = provider.recognize(link)
        assert found is not None
        address, ref = found.spec.split("/")
        assert ref == "HEAD"
        return unquote(unquote(address)), found.urlpath

    assert opened(".") == (f"file://{tmp_path}", "")
    assert opened("..") == (f"file://{tmp_path.parent}", "")
    assert opened("./a b/") == (f"file://{tmp_path}/a b", "")
    assert opened("./a/../x.ipynb") == (f"file://{tmp_path}", "lab/tree/x.ipynb")
    assert opened("/data/My Book.ipynb") == ("file:///data", "lab/tree/My%20Book.ipynb")
    assert opened("~") == ("file:///home/some body", "")
    assert opened("~/x") == ("file:///home/some body/x", "")
    assert opened("file:///a%20b") == ("file:///a b", "")
    assert opened("file://localhost/a") == ("file:///a", "")
    for no in ("a/b", "x.ipynb", "~other/x", "file://elsewhere/x", ".hidden", "...", "\0", "/a\0b"):
        assert provider.recognize(no) is None, no


@given(st.text() | st.text(alphabet="/%.:@-~^#?[]{}\\ aA0\0\n\ud800", max_size=40))
@example("%" * 20_000)
@example("git@" + "a" * 20_000)
def test_no_text_breaks_a_parser(text: str) -> None:
    for parser in (github.parse, gitlab.parse, gist.parse, zenodo.parse, parse_address, ref_name):
        refused: UserError | None = None
        try:
            parser(text)
        except UserError as error:
            refused = error
        if refused is not None:
            assert refused.code in {"spec-invalid", "ref-not-found"}
            assert str(refused).isprintable()
            assert len(str(refused)) < 1500


_CONTEXT: Context = make_context(Path("not-used"), "x")


@given(
    st.sampled_from(["", "https://github.com/", "https://gitlab.com/g/p/-/", "git@github.com:", "file://",
     "/", "~/", "ssh://", "https://raw.githubusercontent.com/", "https://gist.github.com/", "10.5281/zenodo.",
     "https://zenodo.org/records/", "https://gist.githubusercontent.com/"]),
    st.text() | st.text(alphabet="/%.:@-~^#?[]{}\\ aA0\0\n\ud800", max_size=40),
)  # fmt: skip
def test_no_text_breaks_recognize(start: str, text: str) -> None:
    for provider in (
        made(GitHubProvider, GitHubOptions(), _CONTEXT),
        made(GitLabProvider, GitLabOptions(), _CONTEXT),
        made(GistProvider, GistOptions(), _CONTEXT),
        made(ZenodoProvider, ZenodoOptions(), _CONTEXT),
        made(GitProvider, GitOptions(), _CONTEXT),
    ):
        found = provider.recognize(start + text)
        assert found is None or (found.spec.isascii() and found.urlpath.isascii())


@given(
    st.from_regex(r"[a-z0-9][a-z0-9-]{0,8}", fullmatch=True),
    st.from_regex(r"[a-z0-9._-]{3,9}", fullmatch=True),
)
def test_a_recognized_page_is_a_valid_spec(user: str, repo: str) -> None:
    found = made(GitHubProvider, GitHubOptions(), _CONTEXT).recognize(f"https://github.com/{user}/{repo}/tree/main")
    if found:
        spec = github.parse(found.spec)
        assert (spec.user, spec.repo, spec.ref) == (user, repo.removesuffix(".git"), "main")


def test_specs_that_the_operator_bans_or_allows() -> None:
    options = GitHubOptions(allowed_specs=(Pattern("good/.*"),), banned_specs=(Pattern("good/spam"),))
    for spec in ("good/SPAM/HEAD", "other/x/HEAD", "xgood/x/HEAD"):
        with pytest.raises(Refused, match="is not allowed to launch") as caught:
            options.permit(SpecForms.of(spec))
        assert caught.value.status == 403
    options.permit(SpecForms.of("GOOD/x/HEAD"))


def test_git_runs_no_helper_programs() -> None:
    with pytest.raises(ValueError, match="ext"):
        GitOptions(allowed_protocols=frozenset({"https", "ext"}))
