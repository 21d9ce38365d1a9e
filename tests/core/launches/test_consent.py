"""What consent is given to, and that it is remembered and forgotten."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.launches.consent import Consents, forget, other_repositories
from ringbinder.model import Link, ProviderInfo
from ringbinder.runtime.store import Store

PROVIDERS = {
    "gh": ProviderInfo("GitHub", ".+", "", ""),
    "git": ProviderInfo("Git repository", ".+", "", "", repo_url_encode=True),
    "zenodo": ProviderInfo("Zenodo", ".+", "", "", ref_enabled=False),
}
SECRET_URL = "https%3A%2F%2Fuser%3Aplanted%40git.example%2Fa%2Fb.git"


@pytest.fixture
def consents(tmp_path: Path) -> Consents:
    return Consents(True, Store(tmp_path / "ringbinder.sqlite"), PROVIDERS)


@pytest.mark.parametrize(
    ("link", "repository"),
    [
        (Link("gh", "user/repo/HEAD"), "gh/user/repo"),
        (Link("gh", "user/repo/a/branch"), "gh/user/repo"),
        (Link("git", "https%3A%2F%2Fgit.example%2Fa%2Fb.git/main"), "git/https://git.example/a/b.git"),
        (Link("zenodo", "10.5281/zenodo.1"), "zenodo/10.5281/zenodo.1"),
    ],
)
def test_what_consent_is_given_to(consents: Consents, link: Link, repository: str) -> None:
    assert consents.repository(link) == repository


async def test_remembered_and_forgotten(consents: Consents, tmp_path: Path) -> None:
    one, other = Link("gh", "user/repo/HEAD"), Link("gh", "user/repository/HEAD")
    assert not await consents.given(one)
    await consents.give(one)
    again = Consents(True, Store(tmp_path / "ringbinder.sqlite"), PROVIDERS)
    assert await again.given(Link("gh", "user/repo/branch"))
    assert not await again.given(other)
    assert forget(again.store, "gh/user/rep") == []
    assert forget(again.store, "gh/user/repo/HEAD") == ["gh/user/repo"]
    assert not await consents.given(one)


async def test_no_one_is_asked_where_code_runs_elsewhere(tmp_path: Path) -> None:
    elsewhere = Consents(False, Store(tmp_path / "ringbinder.sqlite"), PROVIDERS)
    link = Link("gh", "user/repo/HEAD")
    assert await elsewhere.given(link)
    await elsewhere.give(link)
    assert elsewhere.store.consents() == {}


async def test_no_credential_is_remembered(consents: Consents) -> None:
    link = Link("git", f"{SECRET_URL}/HEAD")
    await consents.give(link)
    assert await consents.given(link)
    [known] = consents.store.consents()
    assert "planted" not in known
    assert forget(consents.store, f"git/{SECRET_URL}/HEAD") == [known]


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), unique=True, max_size=8))
def test_any_name_is_found_again(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    store = Store(tmp_path_factory.mktemp("consents") / "ringbinder.sqlite")
    for name in names:
        store.give_consent(name, 1.0)
        store.give_consent(name, 2.0)
    assert store.consents() == dict.fromkeys(names, 1.0)
    for name in names:
        assert store.has_consent(name)
        assert store.forget_consent(name)
        assert not store.forget_consent(name)
        assert not store.has_consent(name)
    store.close()


def test_a_file_of_the_first_version_gets_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "ringbinder.sqlite"
    Store(path).give_consent("gh/a/b", 1.0)
    db = sqlite3.connect(path)
    db.executescript("DROP TABLE consents; DROP TABLE launches; ALTER TABLE logs DROP COLUMN users")
    db.execute("PRAGMA user_version = 1")
    db.execute("INSERT INTO durations (image, name, seconds) VALUES ('a:1', 'a', 3.0)")
    db.commit()
    db.close()
    store = Store(path)
    store.give_consent("gh/a/b", 2.0)
    assert store.consents() == {"gh/a/b": 2.0}
    assert store.last_build_seconds("a:1") == 3.0


@pytest.mark.parametrize(
    ("urlpath", "named"),
    [
        ("lab/tree/a.ipynb?repo=https://x.example/r", ""),
        ("git-pull?repo=https%3A%2F%2Fx.example%2Fr&branch=main", "https://x.example/r"),
        ("git%2Dpull?repo=https%253A%252F%252Fx.example%252Fr", "https://x.example/r"),
        ("login?next=%2Fgit-pull%3Frepo%3Dhttps%253A%252F%252Fx.example%252Fr", "https://x.example/r"),
        ("git-pull?repo=https://good.example/r&repo=https://x.example/r", "https://good.example/r, https://x.example/r"),
        ("git-pull?repo=https://good.example%40x.example/r", "https://x.example/r"),
        ("git-pull?repo=https://x.example/r?token=planted", "https://x.example/r?token=[secret]"),
        ("git-pull?repo=" + "a" * 300, "a" * 200 + "..."),
        ("git-pull?" + "".join(f"&repo=r{number}" for number in range(9)), "r0, r1, r2, others"),
        ("git-pull", "a repository that the link does not name"),
    ],
)  # fmt: skip
def test_other_repositories_of_a_path_are_named(urlpath: str, named: str) -> None:
    assert other_repositories(urlpath) == named
