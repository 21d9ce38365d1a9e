"""Links in every form that people have at hand, and paths to open that cannot lead away from the server."""

from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.errors import UserError
from ringbinder.launches.links import parse_link, path_to_open, safe_urlpath, v2_path
from ringbinder.model import Link

PREFIXES = ("gh", "git", "gl")


def nobody(text: str) -> Link | None:
    return None


def understood(text: str) -> Link:
    return parse_link(text, PREFIXES, nobody)


def refused(text: str) -> UserError:
    with pytest.raises(UserError) as caught:
        understood(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("gh/user/repo/main", Link("gh", "user/repo/main")),
        ("gh/user/repo", Link("gh", "user/repo")),
        ("  gh/user/repo/feature/x/\n", Link("gh", "user/repo/feature/x")),
        ("gl/group%2Fsub%2Frepo/v1?urlpath=lab", Link("gl", "group%2Fsub%2Frepo/v1", "lab")),
        ("gh/user/repo/r%C3%A4ume", Link("gh", "user/repo/r%C3%A4ume")),
        ("gh/user/repo/räume ä", Link("gh", "user/repo/r%C3%A4ume%20%C3%A4")),
        ("v2/gh/user/repo/HEAD", Link("gh", "user/repo/HEAD")),
        ("/v2/gh/user/repo/HEAD#top", Link("gh", "user/repo/HEAD")),
        ("https://mybinder.org/v2/gh/user/repo/HEAD", Link("gh", "user/repo/HEAD")),
        ("mybinder.org/v2/gh/user/repo/HEAD", Link("gh", "user/repo/HEAD")),
        ("HTTP://localhost:8585/v2/gh/user/repo/HEAD", Link("gh", "user/repo/HEAD")),
        ("http://binder:8585/v2/gh/user/repo/HEAD", Link("gh", "user/repo/HEAD")),
        ("[::1]:8585/v2/gh/user/repo/HEAD", Link("gh", "user/repo/HEAD")),
        ("https://hub.example/services/binder/v2/gh/user/repo/HEAD", Link("gh", "user/repo/HEAD")),
        (
            "https://mybinder.org/v2/git/https%3A%2F%2Fgit.example%2Fa.git/main?x=1&urlpath=%2Flab%2Ftree%2Fa%20b.ipynb",
            Link("git", "https%3A%2F%2Fgit.example%2Fa.git/main", "lab/tree/a b.ipynb"),
        ),
        (
            "https://mybinder.org/v2/gh/u/r/HEAD?labpath=a%20b%2Fc%23d.ipynb",
            Link("gh", "u/r/HEAD", "doc/tree/a%20b/c#d.ipynb"),
        ),
        ("https://mybinder.org/v2/gh/u/r/HEAD?filepath=folder/", Link("gh", "u/r/HEAD", "tree/folder")),
        ("https://mybinder.org/v2/gh/u/r/HEAD?urlpath=rstudio&filepath=a", Link("gh", "u/r/HEAD", "tree/a")),
        (
            "https://mybinder.org/v2/gh/u/r/HEAD?filepath=a&labpath=b%26%5Bc%5D.ipynb%23Results&urlpath=rstudio",
            Link("gh", "u/r/HEAD", "doc/tree/b&%5Bc%5D.ipynb#Results"),
        ),
        ("http://mybinder.org/repo/user/repo", Link("gh", "user/repo/master")),
        ("mybinder.org:/repo/user/repo/", Link("gh", "user/repo/master")),
        (
            "https://beta.mybinder.org/repo/user/repo/notebooks/a%20b.ipynb",
            Link("gh", "user/repo/master", "notebooks/a%20b.ipynb"),
        ),
        (
            "[![Binder](http://mybinder.org/badge.svg)](http://mybinder.org:/repo/user/repo)",
            Link("gh", "user/repo/master"),
        ),
        (
            "[![Binder](https://mybinder.org/badge_logo.svg)](https://mybinder.org/v2/gh/u/r/HEAD?urlpath=lab)",
            Link("gh", "u/r/HEAD", "lab"),
        ),
    ],
)
def test_understood(text: str, link: Link) -> None:
    assert understood(text) == link


@pytest.mark.parametrize(
    "text",
    [
        "https://github.com/user/repo",
        "https://github.com/user/repo/tree/v2/gh/folder",
        "https://gitlab.com/user/repo/-/tree/main/v2/gh/x",
        "https://git.example/repo/user/repo",
        "https://notmybinder.org/repo/user/repo",
        "git@github.com:user/repo.git",
        "./gh/user",
        "/home/me/v2/gh",
        "~/work",
        ".",
        "file:///home/me/v2/gh/x",
    ],
)
def test_left_to_the_providers(text: str) -> None:
    asked: list[str] = []

    def recognize(link: str) -> Link:
        asked.append(link)
        return Link("git", "answer/HEAD", "/lab")

    assert parse_link(f" {text} ", PREFIXES, recognize) == Link("git", "answer/HEAD", "lab")
    assert asked == [text]


def test_what_a_provider_wants_to_open_is_judged_too() -> None:
    with pytest.raises(UserError) as caught:
        parse_link("https://x.example/a", PREFIXES, lambda _: Link("git", "x/HEAD", "https://evil.example"))
    assert caught.value.code == "urlpath-not-allowed"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "gh/user/repo/HEAD"),
        ("gh/", '"gh" alone is no link'),
        ("user/repo", 'Did you mean "gh/user/repo/HEAD"?'),
        ("user/repo/main", 'Did you mean "gh/user/repo/main"?'),
        ("user/repo", "./user/repo"),
        ("github/user/repo", 'Did you mean "gh/user/repo"?'),
        ("GitLab/group/repo/main", 'Did you mean "gl/group%2Frepo/main"?'),
        ("gitlab/group/sub%2Fdeep/repo/main", 'Did you mean "gl/group%2Fsub%2Fdeep%2Frepo/main"?'),
        ("gitlab/group/repo", 'Did you mean "gl/group%2Frepo/HEAD"?'),
        ("gitt/https%3A%2F%2Fx/HEAD/a", 'Did you mean "git"?'),
        ("GH/user/repo/main", 'Did you mean "gh"?'),
        ("https://mybinder.org/v2/zenodo/10.5281/zenodo.1", 'no provider "zenodo"'),
        ("https://git.example/a/b", "git/https%3A%2F%2Fgit.example%2Fa%2Fb/HEAD"),
        ("git.example/a/b", "git/https%3A%2F%2Fgit.example%2Fa%2Fb/HEAD"),
        ("gh/user/repo\x00", "control characters"),
        ("gh/" + "a" * 10_000, "too long"),
        ("[![Binder](x)]()", "No link"),
    ],
)
def test_refused_with_a_hint(text: str, hint: str) -> None:
    error = refused(text)
    assert error.code == "link-not-understood"
    assert hint in error.message


@pytest.mark.parametrize(
    "text",
    [
        "zenodo/10.5281/zenodo.1",
        "v2/zenodo/10.5281/zenodo.1",
        "https://mybinder.org/v2/zenodo/10.5281/zenodo.1",
    ],
)
def test_link_of_provider_left_out_gives_the_reason(text: str) -> None:
    with pytest.raises(UserError, match=r'"zenodo" .* installed, but left out: it is ill\.$') as caught:
        parse_link(text, PREFIXES, nobody, {"zenodo": "it is ill"})
    assert caught.value.code == "provider-left-out"


@pytest.mark.parametrize("text", ["https://gitlab.com/group/repo", "gitlab.com/group/repo", "gitlab/group/repo/main"])
def test_nickname_of_provider_left_out_gives_the_reason(text: str) -> None:
    with pytest.raises(UserError, match=r'"gl" .* it is ill\.$'):
        parse_link(text, ("gh", "git"), nobody, {"gl": "it is ill"})


def test_link_that_another_recognizes_is_not_left_out() -> None:
    other = Link("git", "x/HEAD")
    assert parse_link("https://gitlab.com/group/repo", ("git",), lambda text: other, {"gl": "it is ill"}) == other


def test_suggestions_name_only_providers_that_are_there() -> None:
    with pytest.raises(UserError) as caught:
        parse_link("user/repo", ("fake",), nobody)
    assert "gh/user" not in caught.value.message.replace("gh/user/repo/HEAD", "")
    assert "(providers: fake)" in caught.value.message


@pytest.mark.parametrize("text", ["https://me:hunter2@git.example/a/b", "http://x.example/?token=hunter2"])
def test_no_credentials_in_the_message(text: str) -> None:
    assert "hunter2" not in refused(text).message


@pytest.mark.parametrize(
    ("urlpath", "path"),
    [
        ("", ""),
        ("lab", "lab"),
        ("/lab/tree/a.ipynb", "lab/tree/a.ipynb"),
        ("//evil.example/x", "evil.example/x"),
        (" /  / evil.example", "evil.example"),
        ("proxy/8080/?next=https://x.example/../..", "proxy/8080/?next=https://x.example/../.."),
        ("lab/tree/../a", "lab/tree/../a"),
        ("git-pull?repo=https%3A%2F%2Fgithub.com%2Fu%2Fr", "git-pull?repo=https%3A%2F%2Fgithub.com%2Fu%2Fr"),
        ("?a:b", "?a:b"),
    ],
)
def test_safe_urlpath(urlpath: str, path: str) -> None:
    assert safe_urlpath(urlpath) == path


@pytest.mark.parametrize(
    "urlpath",
    [
        "https://evil.example/",
        "HTTPS:evil.example",
        "/javascript:alert(1)",
        "  data:text/html,x",
        "\\\\evil.example",
        "/\\evil.example",
        "lab\\..\\..\\x",
        "/\t/evil.example",
        "java\nscript:alert(1)",
        "..",
        "../other/lab",
        "lab/../../other",
        "%2e%2E/other",
        "./.%2e/other",
        "a\x7f",
    ],
)
def test_paths_that_lead_away_are_refused(urlpath: str) -> None:
    with pytest.raises(UserError) as caught:
        safe_urlpath(urlpath)
    assert caught.value.code == "urlpath-not-allowed"


HOSTILE = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from(
            [
                "/",
                "\\",
                ".",
                "..",
                "%2e",
                ":",
                "evil.example",
                "http",
                "javascript",
                "?",
                "#",
                "@",
                " ",
                "\t",
                "a",
            ]
        ),
        max_size=12,
    ).map("".join),
)


@given(HOSTILE)
def test_no_path_leads_away_from_the_server(urlpath: str) -> None:
    base = "https://hub.example/user/me/"
    try:
        path = safe_urlpath(urlpath)
    except UserError:
        return
    assert urljoin(base, path).startswith(base)
    assert safe_urlpath(path) == path


PIECES = st.lists(
    st.text(max_size=20)
    | st.sampled_from(["gh", "git", "/", "//", "v2/", "https://", "mybinder.org", "%2F", "%", "..", "user"])
    | st.sampled_from(["?", "urlpath=", "labpath=", "&", "#", "@", ":", "](", ")", "[", "\\", "\ud800", "\0"]),
    max_size=12,
).map("".join)


@given(PIECES)
def test_nothing_but_a_user_error_is_raised(text: str) -> None:
    try:
        link = understood(text)
    except UserError:
        return
    assert link.provider in PREFIXES
    assert understood(v2_path(link)) == link


SPECS = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="%"), min_size=1).filter(
    lambda text: text.strip(" /") == text
)


@given(st.sampled_from(PREFIXES), SPECS, st.text(max_size=40))
def test_v2_round_trip(provider: str, raw: str, urlpath: str) -> None:
    spec = v2_path(Link(provider, raw)).removeprefix(f"v2/{provider}/")
    try:
        link = Link(provider, spec, safe_urlpath(urlpath))
    except UserError:
        link = Link(provider, spec)
    path = v2_path(link)
    assert path.isascii()
    assert understood(path) == link
    assert understood(f"https://binder.example/base/{path}") == link


def test_v2_path() -> None:
    path = v2_path(Link("gl", "a%2Fb/main", "lab/tree/a b.ipynb?x=1&y"))
    assert path == "v2/gl/a%2Fb/main?urlpath=lab/tree/a%20b.ipynb%3Fx%3D1%26y"
    assert parse_qs(urlsplit(path).query) == {"urlpath": ["lab/tree/a b.ipynb?x=1&y"]}


@pytest.mark.parametrize("query", ["", "urlpath=", "x=1", "&&&", "a&" * 500, "labpath=/", "%zz"])
def test_nothing_to_open(query: str) -> None:
    assert path_to_open(query) == ""
