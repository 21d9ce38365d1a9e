"""The operator's lists of specs hold for every provider, however a link spells what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from ringbinder import Provider
from ringbinder.config.loading import load
from ringbinder.config.specs import RepoOptions, SpecConfig, SpecForms, same_repository, unended_host
from ringbinder.errors import Refused
from ringbinder.model import FolderSource, LaunchRequest, Link, ProviderInfo, Repo
from ringbinder.runtime.patterns import Pattern
from ringbinder.testing import memory_app

_GITHUB = "https%3A%2F%2Fgithub.com"


def _options(**lists: list[str]) -> RepoOptions:
    values: dict[str, Any] = {name: tuple(map(Pattern, patterns)) for name, patterns in lists.items()}
    return RepoOptions(**values)


def _permitted(options: RepoOptions, spec: str) -> bool:
    try:
        options.permit(SpecForms.of(spec))
    except Refused:
        return False
    return True


@pytest.mark.parametrize(
    "spec",
    [
        "evil/repo/HEAD", "%65vil/repo/HEAD", "%65%76%69%6c/repo/HEAD", "EVIL/repo/HEAD", "evil%2Frepo/HEAD",
        "/evil/repo/HEAD", "//evil//repo/HEAD", "./evil/repo/HEAD", "x/../evil/repo/HEAD", "x%2F..%2Fevil/repo/HEAD",
        "%2565vil/repo/HEAD", "%20evil/repo/HEAD", "e%00vil/repo/HEAD", "e%E2%80%8Bvil/repo/HEAD", "ｅvil/repo/HEAD",
        "evil%2Frepo.git/HEAD",
    ],
)  # fmt: skip
def test_a_banned_owner_in_any_spelling_is_refused(spec: str) -> None:
    assert not _permitted(_options(banned_specs=["^evil/.*"]), spec)


@pytest.mark.parametrize("spec", ["evil/repo.git/HEAD", "evil/rep%6f.git/HEAD", "evil/repo/HEAD"])
def test_a_banned_repository_in_any_spelling_is_refused(spec: str) -> None:
    assert not _permitted(_options(banned_specs=["^evil/repo/"]), spec)
    assert _permitted(_options(banned_specs=["^evil/repo/"]), "evil/repository/HEAD")


@pytest.mark.parametrize("ban", [rf"^{_GITHUB}%2Fevil%2F", r"^https://github\.com/evil/"])
@pytest.mark.parametrize(
    "spec",
    [
        f"{_GITHUB}%2Fevil%2Frepo/HEAD", "https:%2F%2Fgithub.com%2Fevil%2Frepo/HEAD",
        "%68ttps%3A%2F%2Fgithub.com%2Fevil%2Frepo/HEAD", "HTTPS%3A%2F%2FGitHub.COM%2FEvil%2Frepo.git/HEAD",
        "https%3A%2F%2Fu%40github.com%2Fevil%2Frepo/HEAD", "https%3A%2F%2Fu%3Ap%40github.com%2Fevil%2Frepo/HEAD",
        "https%3A%2F%2Fa.example%40github.com%2Fevil%2Frepo/HEAD",
        "https%3A%2F%2Fgithub.com%3A443%2Fevil%2Frepo/HEAD", "https%3A%2F%2Fgithub.com%3A%2Fevil%2Frepo/HEAD",
        "https%3A%2F%2Fgithub.com.%2Fevil%2Frepo/HEAD", "https%3A%2F%2Fgithub.com%2F%2Fevil%2F%2Frepo%2F/HEAD",
        "https%3A%2F%2Fgithub.com%2Fgood%2F..%2Fevil%2Frepo/HEAD", "https%3A%2F%2Fgithub.com%2F.%2Fevil%2Frepo/HEAD",
        "https%3A%2F%2Fgithub.com%2F%2565vil%2Frepo/HEAD", "https%3A%2F%2Fgithub.com%2Fgood%2F%252e%252e%2Fevil%2Fr/x",
        "https%3A%2F%2Fgithub%E3%80%82com%2Fevil%2Frepo/HEAD", "https%3A%2F%2Fｇithub.com%2Fevil%2Frepo/HEAD",
        "http%3A%2F%2Fgithub.com%2Fevil%2Frepo/HEAD", "git%3A%2F%2Fgithub.com%2Fevil%2Frepo/HEAD",
        "ssh%3A%2F%2Fgit%40github.com%3A22%2Fevil%2Frepo/HEAD", "git%40github.com%3Aevil%2Frepo.git/HEAD",
        "https://github.com/evil/repo/HEAD",
    ],
)  # fmt: skip
def test_a_banned_address_in_any_spelling_is_refused(ban: str, spec: str) -> None:
    assert not _permitted(_options(banned_specs=[ban]), spec)


@pytest.mark.parametrize("pattern", [rf"^{_GITHUB}", r"^https%3A%2F%2Fgithub\.com", r"^https://github\.com"])
@pytest.mark.parametrize(
    ("spec", "permitted"),
    [
        (f"{_GITHUB}%2Fgood%2Frepo/HEAD", True), (f"{_GITHUB}%2Fgood%2Frepo.git/main", True),
        ("https%3A%2F%2Fgithub.com%40evil.example%2Frepo/HEAD", False),
        ("https%3A%2F%2Fgithub.com%3Ax%40evil.example%2Frepo/HEAD", False),
        ("https%3A%2F%2Fevil.example%2Fhttps%3A%2F%2Fgithub.com/HEAD", False),
    ],
)  # fmt: skip
def test_an_allowed_host_is_the_host_that_is_asked(pattern: str, spec: str, permitted: bool) -> None:
    assert _permitted(_options(allowed_specs=[pattern]), spec) is permitted


@pytest.mark.parametrize(
    ("pattern", "spec", "permitted"),
    [
        ("^good/.*", "good/repo/HEAD", True), ("^good/.*", "good/repo.git/HEAD", True),
        (r"^good/repo\.git/", "good/repo.git/HEAD", True), ("^good/repo/HEAD$", "good/repo/HEAD", True),
        ("^good/.*", "good/../evil/repo/HEAD", False), ("^good/.*", "good%2F..%2Fevil/repo/HEAD", False),
        (r"^https%3A%2F%2Fgithub\.com%2Fgood%2F", f"{_GITHUB}%2Fgood%2F..%2Fevil%2Frepo/HEAD", False),
        (r"^ssh%3A%2F%2Fgit%40github\.com%2F", "ssh%3A%2F%2Fgit%40github.com%2Fgood%2Frepo/HEAD", True),
        (r"^git%40github\.com%3Agood%2F", "git%40github.com%3Agood%2Frepo.git/HEAD", True),
        (r"^git%40github\.com%3Agood%2F", "git%40github.com%3Agood%2F..%2Fevil%2Frepo.git/HEAD", False),
        (r"^10\.5281/zenodo\.3", "10.5281/zenodo.3242074", True), ("^group%2Fproject/", "group%2Fproject/main", True),
        ("^file%3A%2F%2F%2Fsrv%2F", "file%3A%2F%2F%2Fsrv%2Fx/HEAD", True),
        ("^file%3A%2F%2F%2Fsrv%2F", "file%3A%2F%2F%2Fsrv%2F..%2Fetc/HEAD", False),
    ],
)  # fmt: skip
def test_what_is_allowed_is_so_in_each_form(pattern: str, spec: str, permitted: bool) -> None:
    assert _permitted(_options(allowed_specs=[pattern]), spec) is permitted


@pytest.mark.parametrize(
    ("pattern", "spec"),
    [
        (r"^(?!https%3A%2F%2Fevil\.example).*", "https%3A%2F%2Fevil.example%2Fx/HEAD"),
        (r"^(?!https%3A%2F%2Fevil\.example).*", "git%3A%2F%2Fevil.example%2Fx/HEAD"),
        (r"^(?!https://evil\.example).*", "https%3A%2F%2Fevil.example%2Fx/HEAD"),
        (r"^(?!git@evil\.example)", "git%40evil.example%3Ax/HEAD"), (r"^(?!evil/repo/).*", "evil/repo.git/HEAD"),
        (r"^(?!evil%2Frepo)", "evil%2Frepo/HEAD"), (r"^(?!evil%2Frepo)", "evil%2frepo/HEAD"),
        (r"^(?!evil/).*", "evil/repo/HEAD"), (r"^(?!evil/).*", "%2565vil/repo/HEAD"),
    ],
)  # fmt: skip
def test_what_an_allowed_pattern_excludes_has_no_other_spelling(pattern: str, spec: str) -> None:
    options = _options(allowed_specs=[pattern])
    assert not _permitted(options, spec)
    assert not _options(high_quota_specs=[pattern]).applied(_repo("x"), SpecForms.of(spec)).high_quota
    assert _permitted(options, "https%3A%2F%2Fgood.example%2Fx.git/HEAD")


def test_a_ban_of_all_but_one_host_holds_as_encoded() -> None:
    options = _options(banned_specs=[r"^(?!https%3A%2F%2Fgood\.example%2F)"])
    assert _permitted(options, "https%3A%2F%2Fgood.example%2Fx.git/HEAD")
    for host in ("evil.example", "good.example%40evil.example", "good.example.evil.example"):
        assert not _permitted(options, f"https%3A%2F%2F{host}%2Fx/HEAD"), host


@pytest.mark.parametrize(
    ("ban", "spec"),
    [
        (r"^10\.5281/zenodo\.1$", "doi:10.5281/zenodo.1"), (r"^10\.5281/zenodo\.1$", "%64oi:10.5281/zenodo.1"),
        (r"^10\.5281/zenodo\.1$", "https%3A%2F%2Fdoi.org%2F10.5281%2Fzenodo.1"),
        (r"^10\.5281/zenodo\.1$", "https://doi.org/10.5281/zenodo.1"),
        (r"^https://evil\.example/", "https%3A%2F%2Fevil.example%3A0443%2Fx/HEAD"),
        (r"^https://\[2001:db8::1\]/", "https%3A%2F%2F%5B2001:0DB8:0::1%5D%2Fx/HEAD"),
        (r"^evil/repo/", "evil/repo.GIT/HEAD"),
    ],
)  # fmt: skip
def test_a_ban_knows_dois_ports_and_addresses(ban: str, spec: str) -> None:
    assert not _permitted(_options(banned_specs=[ban]), spec)


def test_the_documented_ban_of_all_but_one_group_holds() -> None:
    options = _options(banned_specs=[r"^(?!myorg\/.*).*$"])
    assert _permitted(options, "myorg/repo/HEAD")
    for spec in ("evil/repo/HEAD", "evil/repo/HEAD\n", "evil/re\npo/HEAD", "myorg%2F..%2Fevil/repo/HEAD"):
        assert not _permitted(options, spec), spec


def test_a_refusal_shows_no_credentials() -> None:
    with pytest.raises(Refused) as caught:
        _options(banned_specs=["."]).permit(SpecForms.of("https%3A%2F%2Fme%3Aword%40git.example%2Fx/HEAD"))
    assert "word" not in caught.value.reason


def _repo(spec: str) -> Repo:
    return Repo("https://x.example", FolderSource(Path("/x"), "1"), "1", spec, "https://x.example", "x")


def test_the_higher_quota_is_granted_in_each_form_only() -> None:
    options = _options(high_quota_specs=[r"^good/.*"])
    for spec, high in (
        ("good/r/HEAD", True),
        ("good%2F..%2Fevil/r/HEAD", False),
        ("x/../good/r/HEAD", False),
    ):
        assert options.applied(_repo("x"), SpecForms.of(spec)).high_quota is high, spec


def test_the_settings_of_a_spec_are_those_of_what_it_means() -> None:
    entries = [
        ("^evil/.*", {"quota": 1}),
        ("^good/.*", {"quota": 99, "other": 1}),
        ("^good/x/", {"quota": 5}),
    ]
    options = RepoOptions(spec_config=tuple(SpecConfig(Pattern(pattern), config) for pattern, config in entries))
    for spec, settings in (
        ("%65vil/r/HEAD", {"quota": 1}), ("good/../evil/r/HEAD", {"quota": 1}),
        ("good/r/HEAD", {"quota": 99, "other": 1}), ("good/x.git/HEAD", {"quota": 5, "other": 1}),
    ):  # fmt: skip
        assert options.applied(_repo("x"), SpecForms.of(spec)).settings == settings, spec


def test_what_turns_out_to_be_banned_is_refused() -> None:
    options = _options(banned_specs=["^evil/"])
    with pytest.raises(Refused):
        options.applied(_repo("evil/repo/1"), SpecForms.of("renamed/repo/HEAD"))


def test_one_repository_has_one_key_for_all_spellings() -> None:
    urls = ("https://github.com/a/b", "https://GitHub.com/A/b.git", "http://github.com:80//a/b/",
            "ssh://git@github.com/a/b", "git@github.com:a/b.git")  # fmt: skip
    assert len({same_repository(url) for url in urls}) == 1
    assert same_repository("https://github.com/a/b") != same_repository("https://gitlab.com/a/b")


class _Shelf(Provider[Any]):
    """A stranger's provider, which knows nothing of the lists."""

    sections = ("Shelf",)

    def describe(self) -> ProviderInfo:
        return ProviderInfo("Shelf", ".+", "Book", "example: book")

    def recognize(self, link: str) -> Link | None:
        return None

    async def resolve(self, request: LaunchRequest) -> Repo | None:
        return evolve(
            _repo("evil/book/1" if request.spec == "alias" else "book/1"),
            url="https://x.example/Book.git" if "other" in request.spec else "https://x.example/book",
            slug=request.spec,
        )

    async def fetch(self, repo: Repo, into: Path, log: Any) -> bool:
        return True


@pytest.mark.parametrize(
    ("sections", "spec"),
    [
        ({"RepoProvider": {"banned_specs": ["^evil/.*"]}}, "%65vil/book"),
        ({"RepoProvider": {"banned_specs": ["^evil/.*"]}}, "alias"),
        ({"RepoProvider": {"allowed_specs": ["^good/.*"]}}, "evil/book"),
        ({"Shelf": {"banned_specs": ["^evil/.*"]}}, "evil/book"),
    ],
)  # fmt: skip
async def test_a_strangers_provider_is_under_the_lists(tmp_path: Path, sections: dict[str, Any], spec: str) -> None:
    async with memory_app(tmp_path, {"provider:shelf": _Shelf}, **sections) as memory:
        with pytest.raises(Refused) as caught:
            await memory.app.resolve(LaunchRequest("shelf", spec))
    assert (caught.value.status, caught.value.policy) == (403, "provider:shelf")


async def test_a_strangers_provider_gets_what_is_granted(tmp_path: Path) -> None:
    lists = {"high_quota_specs": ["^good/"], "spec_config": [{"pattern": "^good/", "config": {"quota": 7}}]}
    async with memory_app(tmp_path, {"provider:shelf": _Shelf}, RepoProvider=lists) as memory:
        for spec, high, settings in (("good/book", True, {"quota": 7}), ("book", False, {})):
            repo = await memory.app.resolve(LaunchRequest("shelf", spec))
            assert (repo.high_quota, repo.settings) == (high, settings)


async def test_a_misspelt_list_takes_its_provider_out(tmp_path: Path) -> None:
    async with memory_app(tmp_path, {"provider:shelf": _Shelf}, Shelf={"banned_spec": []}) as memory:
        (found,) = [found for found in memory.app.plugins.found if found.name == "shelf"]
        assert 'Did you mean "banned_specs"?' in found.reason
        assert "shelf" not in memory.app.plugins.providers


async def test_spellings_of_a_repository_share_its_quota(tmp_path: Path) -> None:
    plugins = {"provider:shelf": _Shelf}
    async with memory_app(
        tmp_path, plugins, installed=True, LaunchQuota={"per_repo_quota": 1, "when_full": "refuse"}
    ) as memory:
        assert (await memory.launch("shelf/book"))[-1].phase == "ready"
        last = (await memory.launch("shelf/other-spelling"))[-1]
    assert (last.phase, "Too many users" in last.message) == ("failed", True)


@pytest.mark.parametrize(
    ("pattern", "host"),
    [
        (r"^https%3A%2F%2Fgithub\.com", "github.com"),
        (r"https://github\.com.*", "github.com"),
        (r"^https?(://|%3A%2F%2F)(www\.)?(github\.com|gitlab\.com%2F)", "github.com"),
        (r"^https://(github\.com/|gitlab\.com)", "gitlab.com"),
        (r"^git@github\.com", "github.com"),
        (r"^https%3a%2f%2fgithub.com", "github.com"),
        (r"^https%3A%2F%2Fgithub\.com%2F", ""),
        (r"^https://github\.com(:|/|%2F)", ""),
        (r"^https%3A%2F%2F[^%]*\.example\.com%2F.*", ""),
        (r"^our-group/a\.b", ""),
        (r"^our\.group", ""),
        (r"^10\.5281/zenodo\.7", ""),
        (r"^(?!https%3A%2F%2Fevil\.example).*", ""),
        (".*", ""),
        ("", ""),
    ],
)
def test_host_without_an_end_in_a_pattern_is_found(pattern: str, host: str) -> None:
    assert unended_host(pattern) == host
    for list_name in ("allowed_specs", "high_quota_specs"):
        config = load((), environ={}, sets=[f"GitRepoProvider.{list_name}=['{pattern}']"])
        assert [f"hosts such as {host}.evil.example" in risk for risk in config.risks] == ([True] if host else [])
        if host:
            assert f"GitRepoProvider.{list_name}" in config.risks[0]


def test_list_that_is_no_list_of_patterns_is_left_to_the_check() -> None:
    for value in ("['(']", "[1]", "text", "{a: b}"):
        assert load((), environ={}, sets=[f"GitRepoProvider.allowed_specs={value}"]).risks == ()
