"""The provider `figshare`: articles of figshare, by DOI or number.

Source: the public part of figshare's API v2, https://docs.figshare.com.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import httpx
from attrs import frozen
from ringbinder import (
    ByteSize,
    DoiSource,
    LaunchRequest,
    Link,
    Log,
    Provider,
    ProviderInfo,
    Repo,
    TransientError,
    UserError,
    option,
)

SPEC = r"(10\.6084/m9\.figshare\.)?([1-9][0-9]{0,14})(\.v([1-9][0-9]{0,5}))?"
PAGE = r"https?://figshare\.com/articles/(?:[^/?#]+/){1,2}([1-9][0-9]{0,14})(?:/([1-9][0-9]{0,5}))?/?(?:[?#].*)?"


@frozen
class FigshareOptions:
    """Section `FigshareProvider`."""

    api_url: str = option("https://api.figshare.com/v2", help="Address of figshare's API.")
    record_limit: ByteSize = option(10 * 2**30, help="Most bytes that an article may have, also unpacked.")


class FigshareProvider(Provider[FigshareOptions]):
    """Specs are ``10.6084/m9.figshare.<number>`` or ``<number>``, with ``.v<version>`` or without."""

    Config = FigshareOptions
    sections = ("FigshareProvider",)
    plugin_api = 1

    def describe(self) -> ProviderInfo:
        return ProviderInfo(
            display_name="Figshare DOI",
            spec_regex=SPEC,
            repo_label="Figshare DOI",
            repo_placeholder="example: 10.6084/m9.figshare.9782777.v2",
            ref_enabled=False,
        )

    def recognize(self, link: str) -> Link | None:
        if match := re.fullmatch(PAGE, link):
            version = f".v{match[2]}" if match[2] else ""
            return Link(self.context.name, f"10.6084/m9.figshare.{match[1]}{version}")
        doi = re.sub(r"^(doi:|https?://(dx\.)?doi\.org/)", "", link)
        if doi.startswith("10.") and re.fullmatch(SPEC, doi):
            return Link(self.context.name, doi)
        return None

    async def resolve(self, request: LaunchRequest) -> Repo:
        if not (match := re.fullmatch(SPEC, request.spec)):
            raise UserError("spec-invalid", "A spec is a DOI such as 10.6084/m9.figshare.9782777.v2, or a number.")
        number, version = match[2], match[4]
        article = await self._article(number, version)
        if article is None and version and await self._article(number, None) is not None:
            raise UserError("ref-not-found", f"Article {number} has no version {version}.")
        if article is None:
            raise UserError("repo-not-found", f"There is no public article {number} on figshare.")
        fixed = f"{number}.v{_whole(article, 'version')}"
        doi = f"10.6084/m9.figshare.{fixed}"
        return Repo(
            url=f"https://doi.org/10.6084/m9.figshare.{number}",
            source=DoiSource(doi, fixed),
            ref=fixed,
            resolved_spec=doi,
            ref_url=f"https://doi.org/{doi}",
            slug=f"figshare-{number}",
        )

    async def fetch(self, repo: Repo, into: Path, log: Log) -> bool:
        number, _, version = repo.ref.partition(".v")
        article = await self._article(number, version)
        listed = (article or {}).get("files")
        files = [file for file in listed if not file.get("is_link_only")] if isinstance(listed, list) else []
        if not files:
            raise UserError("record-unusable", f"Article {number} has no files to launch.")
        if sum(_whole(file, "size") for file in files) > self.config.record_limit:
            raise UserError("record-too-large", f"Article {number} is larger than is allowed here.")
        for file in files:
            target = into / _plain_name(file)
            log.line(f"Fetching {target.name} ({file['size']} bytes)\n", "fetching")
            await self._download(file, target)
        if len(files) == 1 and await asyncio.to_thread(zipfile.is_zipfile, target):
            log.line(f"Unpacking {target.name}\n", "fetching")
            await asyncio.to_thread(_unpack, target, into, self.config.record_limit)
        return True

    async def _article(self, number: str, version: str | None) -> Mapping[str, Any] | None:
        """A version of an article, the newest without `version`; None if there is none."""
        url = f"{self.config.api_url}/articles/{number}" + (f"/versions/{version}" if version else "")
        try:
            answer = await self.context.http.get(url)
        except httpx.TransportError as error:
            raise TransientError(f"figshare does not answer ({type(error).__name__}).") from error
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise TransientError(f"figshare answers {answer.status_code}.")
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise TransientError("figshare answers with something that is no article.")
        return found

    async def _download(self, file: Mapping[str, Any], target: Path) -> None:
        """Brings one file. Raises TransientError if it is not, byte for byte, what the article says."""
        size, digest = 0, hashlib.md5(usedforsecurity=False)
        try:
            with target.open("wb") as written:
                async with self.context.http.stream("GET", str(file["download_url"]), follow_redirects=True) as answer:
                    if answer.status_code != 200:
                        raise TransientError(f"figshare answers {answer.status_code} to {target.name}.")
                    async for chunk in answer.aiter_bytes(2**20):
                        size += len(chunk)
                        if size > file["size"]:
                            break
                        digest.update(chunk)
                        await asyncio.to_thread(written.write, chunk)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise TransientError(f"{target.name} did not arrive ({type(error).__name__}).") from error
        if size != file["size"] or digest.hexdigest() != (file.get("computed_md5") or file["supplied_md5"]):
            raise TransientError(f"{target.name} did not arrive as the article describes it.")


def _whole(found: Mapping[str, Any], name: str) -> int:
    if not isinstance(value := found.get(name), int):
        raise TransientError(f"figshare tells no {name}.")
    return value


def _plain_name(file: Mapping[str, Any]) -> str:
    """The file's name, which is one in the folder. Raises UserError."""
    name = str(file.get("name", ""))
    if name != PurePosixPath(name).name or name in ("", "..") or not name.isprintable() or len(name) > 200:
        raise UserError("record-unusable", "The article has a file whose name cannot be used.")
    return name


def _unpack(archive: Path, into: Path, limit: int) -> None:
    """`extractall` writes nothing outside of `into`."""
    try:
        with zipfile.ZipFile(archive) as content:
            if sum(entry.file_size for entry in content.infolist()) > limit:
                raise UserError("record-too-large", f"{archive.name} unpacks to more than is allowed here.")
            archive.unlink()
            content.extractall(into)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise UserError("record-unusable", f"{archive.name} cannot be unpacked.") from error
