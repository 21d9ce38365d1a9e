"""The provider as installed: its contract, and records that are damaged, large or hostile."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import AsyncIterator, Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "ringbinder_provider_figshare", reason="pip install ./examples/plugins/ringbinder-provider-figshare"
)

from aiohttp import web
from ringbinder import Context, LaunchRequest, Link, RingbinderError, TransientError, UserError
from ringbinder.testing import ProviderCase, ProviderContract, RecordingLog, memory_app
from ringbinder.testing.apiserver import ApiServer, Reply
from ringbinder_provider_figshare import FigshareOptions, FigshareProvider

pytest_plugins = "ringbinder.testing.pytest"


class Figshare(ApiServer):
    """Articles 7 (versions 1 and 2) and others, of the documented form; downloads are redirected."""

    def content(self, path: str, request: web.Request) -> Any:
        match path.strip("/").split("/"):
            case ["v2", "articles", "7"]:
                return self.article({"a.txt": b"two", "b.ipynb": b"{}"}, 2)
            case ["v2", "articles", "7", "versions", "1"]:
                return self.article({"a.txt": b"one"}, 1)
            case ["v2", "articles", "7", "versions", "2"]:
                return self.article({"a.txt": b"two", "b.ipynb": b"{}"}, 2)
            case ["files", content]:
                return Reply(302, headers={"Location": f"/store/{content}"})
            case ["store", content]:
                return Reply(body=bytes.fromhex(content.removeprefix("x")))
        return None

    def article(self, files: Mapping[str, bytes], version: int, **changed: Any) -> Any:
        listed = []
        for number, (name, content) in enumerate(files.items()):
            digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
            url = f"{self.address}/files/x{content.hex()}"
            file = {
                "id": number,
                "name": name,
                "size": len(content),
                "is_link_only": False,
                "download_url": url,
            }
            listed.append({**file, "supplied_md5": digest, "computed_md5": digest, **changed})
        elsewhere = {
            "id": 99,
            "name": "link",
            "size": 0,
            "is_link_only": True,
            "download_url": "https://x.invalid",
        }
        return {"id": 7, "version": version, "files": [*listed, elsewhere]}


@pytest.fixture
async def figshare() -> AsyncIterator[Figshare]:
    async with Figshare.running() as server:
        yield server


@pytest.fixture
def provider(figshare: Figshare, plugin_context: Callable[..., Context]) -> FigshareProvider:
    options = FigshareOptions(f"{figshare.address}/v2", record_limit=1000)
    return FigshareProvider(options, plugin_context("figshare"))


class TestFigshare(ProviderContract):
    @pytest.fixture
    async def case(self, figshare: Figshare, provider: FigshareProvider) -> ProviderCase:
        return ProviderCase(
            provider=provider,
            spec="10.6084/m9.figshare.7",
            files={"a.txt": b"two", "b.ipynb": b"{}"},
            unknown_ref_spec="7.v9",
            unknown_repo_spec="8",
            bad_specs=["", "x", "7.v", "10.5281/zenodo.7", "7/2"],
            links={
                "https://doi.org/10.6084/m9.figshare.7.v1": Link("figshare", "10.6084/m9.figshare.7.v1"),
                "https://figshare.com/articles/code/A_title/7/2": Link("figshare", "10.6084/m9.figshare.7.v2"),
                "https://figshare.com/articles/A_title/7": Link("figshare", "10.6084/m9.figshare.7"),
                "https://example.org/7": None,
            },
            stalled=figshare.stalled,
        )


async def test_an_older_version(provider: FigshareProvider, tmp_path: Path) -> None:
    repo = await provider.resolve(LaunchRequest("figshare", "7.v1"))
    assert await provider.fetch(repo, tmp_path, RecordingLog())
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "one"}


def tell(monkeypatch: pytest.MonkeyPatch, figshare: Figshare, article: Any) -> None:
    """From now on the API answers with `article`, whatever is asked; files are as they were."""
    usual = figshare.content
    monkeypatch.setattr(
        Figshare,
        "content",
        lambda self, path, request: article if path.startswith("/v2/") else usual(path, request),
    )


def zipped(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            made.writestr(name, data)
    return content.getvalue()


@pytest.mark.parametrize(
    ("files", "changed", "error", "code"),
    [
        ({"a.txt": b"two"}, {"computed_md5": "0" * 32}, TransientError, "did not arrive as"),
        ({"a.txt": b"two"}, {"size": 2}, TransientError, "did not arrive as"),
        ({"a.txt": b"two"}, {"size": 4}, TransientError, "did not arrive as"),
        ({"a.txt": b"two"}, {"size": 2000}, UserError, "larger than"),
        ({"../a.txt": b"two"}, {}, UserError, "name cannot be used"),
        ({"/etc/a.txt": b"two"}, {}, UserError, "name cannot be used"),
        ({}, {}, UserError, "no files"),
        ({"a.zip": zipped({"big": b"0" * 2000})}, {}, UserError, "unpacks to more"),
    ],
)
async def test_what_is_wrong_is_not_launched(
    provider: FigshareProvider,
    figshare: Figshare,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    files: Mapping[str, bytes],
    changed: Mapping[str, Any],
    error: type[RingbinderError],
    code: str,
) -> None:
    repo = await provider.resolve(LaunchRequest("figshare", "7"))
    article = figshare.article(files, 2, **changed)
    tell(monkeypatch, figshare, article)
    into = tmp_path / "outer" / "into"
    into.mkdir(parents=True)
    with pytest.raises(error, match=code):
        await provider.fetch(repo, into, RecordingLog())
    assert [path.name for path in into.parent.iterdir()] == ["into"]


async def test_one_zip_file_is_unpacked_within_the_folder(
    provider: FigshareProvider, figshare: Figshare, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repo = await provider.resolve(LaunchRequest("figshare", "7"))
    article = figshare.article({"all.zip": zipped({"x/a.txt": b"in", "../../out.txt": b"out"})}, 2)
    tell(monkeypatch, figshare, article)
    into = tmp_path / "outer" / "into"
    into.mkdir(parents=True)
    assert await provider.fetch(repo, into, RecordingLog())
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.txt")}
    assert found == {"outer/into/x/a.txt", "outer/into/out.txt"}


async def test_an_outage_is_reported_as_such(provider: FigshareProvider, figshare: Figshare) -> None:
    figshare.fail(503)
    with pytest.raises(TransientError, match="answers 503"):
        await provider.resolve(LaunchRequest("figshare", "7"))


async def test_a_launch_with_the_installed_plugin(tmp_path: Path, figshare: Figshare) -> None:
    (point,) = entry_points(group="ringbinder.providers", name="figshare")
    assert point.dist is not None
    assert point.dist.name == "ringbinder-provider-figshare"
    section = {"api_url": f"{figshare.address}/v2"}
    async with memory_app(tmp_path, installed=True, FigshareProvider=section) as app:
        events = await app.launch("figshare/10.6084/m9.figshare.7")
    assert events[-1].phase == "ready", events[-1].message
