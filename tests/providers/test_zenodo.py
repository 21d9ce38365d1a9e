"""`zenodo`: what a DOI means, and that nothing arrives damaged or where it must not be."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from realparts.providers import made
from ringbinder.errors import PluginError, TransientError, UserError
from ringbinder.model import DoiSource, FolderSource, LaunchRequest, Link, Repo
from ringbinder.plugins.context import Context
from ringbinder.testing import RecordingLog
from ringbinder.testing.hosts import ZenodoServer
from ringbinder_providers.zenodo import ZenodoOptions, ZenodoProvider


@pytest.fixture
async def server() -> AsyncIterator[ZenodoServer]:
    async with ZenodoServer.running() as running:
        yield running


class Zenodo:
    def __init__(self, server: ZenodoServer, context: Context) -> None:
        self.server, self.context, self.log = server, context, RecordingLog()
        self.provider = self.configured()

    def configured(self, **options: Any) -> ZenodoProvider:
        where = {"base_url": self.server.address, "doi_base_url": f"{self.server.address}/doi-resolver"}
        self.provider = made(ZenodoProvider, ZenodoOptions(**{"retry_delay": 0.01, **where, **options}), self.context)
        return self.provider

    async def resolve(self, doi: str) -> Repo:
        repo = await self.provider.resolve(LaunchRequest("zenodo", doi))
        assert repo is not None
        return repo

    async def fetch(self, files: Mapping[str, bytes], into: Path) -> Path:
        self.server.records["7"] = files
        into.mkdir()
        assert await self.provider.fetch(await self.resolve("10.5281/zenodo.7"), into, self.log) is True
        return into


@pytest.fixture
def ask(server: ZenodoServer, context: Context) -> Zenodo:
    return Zenodo(server, context)


def tree(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def archive(files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o755 if content.startswith(b"#!") else 0o644) << 16
            target.writestr(entry, content)
        for name, to in (links or {}).items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            target.writestr(entry, to)
    return made.getvalue()


async def test_what_a_doi_means(ask: Zenodo) -> None:
    ask.server.records["42"] = {"a": b"a"}
    ask.server.newest["41"] = "42"
    for doi in ("10.5281/zenodo.42", "10.5281/zenodo.41"):
        repo = await ask.resolve(doi)
        assert repo.url == doi
        assert repo.source == DoiSource("10.5281/zenodo.42", "42")
        assert (repo.ref, repo.slug, repo.resolved_spec) == ("42", "zenodo-42", "10.5281/zenodo.42")
        assert repo.ref_url.endswith("/10.5281/zenodo.42")
    with pytest.raises(UserError) as caught:
        await ask.resolve("10.5281/zenodo.43")
    assert caught.value.code == "repo-not-found"
    ask.server.fail(410, {"message": "The record has been deleted."})
    with pytest.raises(UserError, match="withdrawn"):
        await ask.resolve("10.5281/zenodo.44")


async def test_a_doi_of_another_form(ask: Zenodo) -> None:
    ask.server.records["42"] = {"a": b"a"}
    ask.server.landings |= {
        "10.1234/journal.5": f"{ask.server.address}/records/42",
        "10.1234/elsewhere": "http://192.0.2.1/records/42",
        "10.1234/in-circles": f"{ask.server.address}/doi-resolver/10.1234/in-circles",
    }
    repo = await ask.resolve("10.1234/journal.5")
    assert (repo.ref, repo.resolved_spec) == ("42", "10.1234/journal.5")
    for doi in ("10.1234/elsewhere", "10.1234/in-circles", "10.1234/unknown"):
        with pytest.raises(UserError) as caught:
            await ask.resolve(doi)
        assert caught.value.code == "repo-not-found", doi


@pytest.mark.parametrize(
    "failure", [{"status": 429, "retry_after": "9"}, {"status": 500}, {"status": 200, "body": b"<html>"},
                {"status": 200, "content": {"id": "../.."}}, {"status": 200, "content": []}]
)  # fmt: skip
async def test_zenodo_in_trouble(ask: Zenodo, failure: dict[str, Any]) -> None:
    ask.server.fail(**failure)
    with pytest.raises(TransientError):
        await ask.resolve("10.5281/zenodo.42")


async def test_zenodo_that_does_not_answer(ask: Zenodo) -> None:
    ask.configured(api_timeout=0.3)
    async with ask.server.stalled():
        for doi in ("10.5281/zenodo.42", "10.1234/x"):
            with pytest.raises(TransientError, match="did not answer"):
                await ask.resolve(doi)


async def test_files_and_folders(ask: Zenodo, tmp_path: Path) -> None:
    files = {
        "a.txt": b"a" * 3_000_000,
        "empty": b"",
        "deep/er/b c.txt": b"b",
        "archive.zip": archive({"x": b"x"}),
    }
    assert tree(await ask.fetch(files, tmp_path / "into")) == files
    assert "deep/er/b c.txt" in ask.log.text


@pytest.mark.parametrize(
    ("name", "inside", "expected"),
    [
        ("r.zip", {"u-r-1/a": b"a", "u-r-1/d/b": b"#!b"}, {"a": b"a", "d/b": b"#!b"}),
        ("r.zip", {"a": b"a", "d/b": b"b"}, {"a": b"a", "d/b": b"b"}),
        ("u/r.zip", {"r-1/a": b"a", "r-1/u": b"b"}, {"a": b"a", "u": b"b"}),
        ("u/r.zip", {"u/a": b"a", "b": b"b"}, {"u/a": b"a", "b": b"b"}),
    ],
)
async def test_a_lone_archive_is_unpacked(
    ask: Zenodo, tmp_path: Path, name: str, inside: dict[str, bytes], expected: dict[str, bytes]
) -> None:
    into = await ask.fetch({name: archive(inside)}, tmp_path / "into")
    assert tree(into) == expected
    for path, content in expected.items():
        assert bool((into / path).stat().st_mode & stat.S_IXUSR) == content.startswith(b"#!")


async def test_links_in_an_archive(ask: Zenodo, tmp_path: Path) -> None:
    into = await ask.fetch({"r.zip": archive({"r/a": b"a", "r/d/b": b"b"}, {"r/d/l": "../a"})}, tmp_path / "into")
    assert (into / "d/l").is_symlink()
    assert (into / "d/l").read_bytes() == b"a"


@pytest.mark.parametrize(
    ("files", "links"),
    [
        ({"../out": b"x"}, {}),
        ({"a/../../out": b"x"}, {}),
        ({"/out": b"x"}, {}),
        ({"a": b"a"}, {"out": "/etc/passwd"}),
        ({"a": b"a"}, {"d/out": "../../x"}),
        ({"a/b/c": b"a"}, {"a/b/root": "../..", "out": "a/b/root/../x"}),
        ({"d/a": b"a"}, {"d": ".."}),
    ],
)
async def test_an_archive_that_leads_out(
    ask: Zenodo, tmp_path: Path, files: dict[str, bytes], links: dict[str, str]
) -> None:
    with pytest.raises(UserError) as caught:
        await ask.fetch({"r.zip": archive(files, links)}, tmp_path / "into")
    assert caught.value.code == "record-unusable"
    assert set(tree(tmp_path)) <= {"into/r.zip"}


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/out", "..", ".", "", "a\0b"])
async def test_a_name_that_leads_out(ask: Zenodo, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError) as caught:
        await ask.fetch({name: b"x", "other": b"y"}, tmp_path / "into")
    assert caught.value.code == "record-unusable"
    assert not tree(tmp_path)


@pytest.mark.parametrize("sent", [b"", b"short", b"the right sizE", b"far too much of it" * 1000])
async def test_what_did_not_arrive_whole(ask: Zenodo, tmp_path: Path, sent: bytes) -> None:
    ask.server.changed["a"] = sent
    with pytest.raises(TransientError):
        await ask.fetch({"a": b"the right size"}, tmp_path / "into")


async def test_too_large(ask: Zenodo, tmp_path: Path) -> None:
    ask.configured(record_limit=5000)
    for n, files in enumerate(({"a": b"x" * 5001}, {"r.zip": archive({"a": b"x" * 5001})})):
        with pytest.raises(UserError) as caught:
            await ask.fetch(files, tmp_path / str(n))
        assert caught.value.code == "record-too-large"


async def test_a_record_without_open_files(ask: Zenodo, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="restricted or under embargo"):
        await ask.fetch({}, tmp_path / "into")


async def test_another_sources_repo_is_refused(ask: Zenodo, tmp_path: Path) -> None:
    repo = Repo("u", FolderSource(tmp_path, "d"), "d", "s", "u", "s")
    with pytest.raises(PluginError, match="FolderSource"):
        await ask.provider.fetch(repo, tmp_path, ask.log)


async def test_doctor(ask: Zenodo) -> None:
    assert [found.level for found in await ask.provider.doctor()] == ["ok"]
    ask.server.fail(500)
    assert [found.level for found in await ask.configured().doctor()] == ["error"]


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("10.5281/zenodo.7", ("10.5281/zenodo.7", "")),
        ("doi:10.5281/zenodo.7", ("10.5281/zenodo.7", "")),
        ("https://doi.org/10.5281/zenodo.7", ("10.5281/zenodo.7", "")),
        ("https://zenodo.org/records/7", ("10.5281/zenodo.7", "")),
        ("https://zenodo.org/record/7#.YX", ("10.5281/zenodo.7", "")),
        ("https://zenodo.org/doi/10.5281/zenodo.7", ("10.5281/zenodo.7", "")),
        (
            "https://zenodo.org/records/7/files/a%20b.ipynb?download=1",
            ("10.5281/zenodo.7", "lab/tree/a%20b.ipynb"),
        ),
        ("https://zenodo.org/records/7/files/r.zip", ("10.5281/zenodo.7", "")),
        ("https://doi.org/10.1234/other", None),
        ("https://zenodo.org/communities/x", None),
        ("https://zenodo.org.example/records/7", None),
        ("10.5281/zenodo.x", None),
    ],
)
def test_recognize(context: Context, link: str, expected: tuple[str, str] | None) -> None:
    found = made(ZenodoProvider, ZenodoOptions(), context).recognize(link)
    assert found == (expected and Link("git", *expected))
