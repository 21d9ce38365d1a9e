"""Provider `zenodo`: records of Zenodo, by their DOI."""

from __future__ import annotations

import asyncio
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urljoin, urlsplit

from attrs import frozen
from ringbinder import (
    ByteSize,
    Context,
    DoiSource,
    Duration,
    Finding,
    LaunchRequest,
    Link,
    Log,
    PluginError,
    Provider,
    ProviderInfo,
    Repo,
    TransientError,
    UserError,
    option,
)
from ringbinder.git import decoded
from ringbinder.specs import RepoOptions, shown

from ._api import Api
from ._archive import unpack
from ._hosted import host_of
from ._pages import page, to_open
from ._record import Downloads, RecordFile
from ._specs import invalid

_DOI: Final = re.compile(r"10\.\d+(?:\.\d+)*/[^\s\"<>#?%\\]+")
_OWN: Final = re.compile(r"10\.\d+/zenodo\.(\d{1,15})", re.IGNORECASE)
_RECORD_ID: Final = re.compile(r"\d{1,15}")
_LANDING: Final = re.compile(r"/records?/(\d{1,15})(?:/.*)?")
_REDIRECTS: Final = 5


@frozen
class ZenodoOptions(RepoOptions):
    """Section `ZenodoProvider`."""

    base_url: str = option(default="https://zenodo.org", help="Address of Zenodo; or its sandbox.")
    doi_base_url: str = option(default="https://doi.org", help="Where DOIs are looked up.")
    api_timeout: Duration = option(default=20.0, help="How long Zenodo's API may take for one look-up.")
    remember_missing: Duration = option(
        default=60.0, help="How long it is believed that a record is missing, without asking again."
    )
    record_limit: ByteSize = option(
        default=10 * 2**30, help="Most bytes that the files of a record may have, also unpacked."
    )


class ZenodoProvider(Provider[ZenodoOptions]):
    """Specs are DOIs: ``10.5281/zenodo.3242074`` (BinderHub's grammar). The DOI of all versions means the newest."""

    Config = ZenodoOptions
    sections = ("RepoProvider", "ZenodoProvider")

    def __init__(self, config: ZenodoOptions, context: Context) -> None:
        super().__init__(config, context)
        self._base = config.base_url.rstrip("/")
        context.git.add_host(config.base_url)
        self._api = Api(
            "Zenodo",
            f"{self._base}/api",
            context,
            context.git.retry,
            config.api_timeout,
            {"Accept": "application/json"},
            config.remember_missing,
        )

    def describe(self) -> ProviderInfo:
        return ProviderInfo(
            display_name="Zenodo DOI",
            event_name="Zenodo",
            spec_regex=r"10\.\d+\/(.)+",
            repo_label="Zenodo DOI",
            repo_placeholder="example: 10.5281/zenodo.3242074",
            ref_enabled=False,
        )

    def recognize(self, link: str) -> Link | None:
        bare = link.strip().removeprefix("doi:")
        if _OWN.fullmatch(bare):
            return Link(self.context.name, bare)
        doi = page(link, {"doi.org", "dx.doi.org"})
        if doi and _OWN.fullmatch(found := "/".join(doi)):
            return Link(self.context.name, found)
        match page(link, {host_of(self._base)}):
            case ["record" | "records", number, *rest] if number.isascii() and number.isdecimal():
                file = rest[1:] if rest[:1] in (["files"], ["preview"]) else []
                # A record that is one archive is unpacked: where the file is then, no one knows.
                path = [] if file and file[-1].endswith(".zip") else file
                return Link(self.context.name, f"10.5281/zenodo.{number}", to_open(path))
            case ["doi", *parts] if _OWN.fullmatch(found := "/".join(parts)):
                return Link(self.context.name, found)
        return None

    async def resolve(self, request: LaunchRequest) -> Repo:
        doi = parse(request.spec)
        own = _OWN.fullmatch(doi)
        record = await self._record(own[1] if own else await self._landing(doi))
        number = str(record["id"])
        # A DOI of another form is of one version.
        resolved = f"{doi[: own.start(1)]}{number}" if own else doi
        return Repo(
            url=doi,
            source=DoiSource(resolved, number),
            ref=number,
            resolved_spec=resolved,
            ref_url=f"{self.config.doi_base_url.rstrip('/')}/{resolved}",
            slug=f"zenodo-{number}",
        )

    async def _record(self, number: str) -> Mapping[str, Any]:
        """The record, the newest version if `number` stands for all. Source: Zenodo's REST API."""
        answer = await self._api.get(f"/records/{number}")
        if answer.status in {404, 410}:
            gone = "was withdrawn" if answer.status == 410 else "does not exist"
            raise UserError("repo-not-found", f"Record {number} {gone} on Zenodo: check the DOI.")
        record = answer.content
        if answer.status != 200:
            raise TransientError(f"Zenodo answered with HTTP status {answer.status}", answer.retry_after)
        if not isinstance(record, dict) or not _RECORD_ID.fullmatch(str(record.get("id", ""))):
            raise TransientError("Zenodo answered with something that is no record")
        return record

    async def _landing(self, doi: str) -> str:
        """The number of the record that a DOI of another form leads to."""
        import httpx

        url = f"{self.config.doi_base_url.rstrip('/')}/{quote(doi)}"
        hosts = {host_of(url), host_of(self._base)}
        http, status = self.context.http, 0
        try:
            async with asyncio.timeout(self.config.api_timeout):
                for _ in range(_REDIRECTS):
                    response = await http.head(url, follow_redirects=False)
                    status = response.status_code
                    if status == 404:
                        raise UserError("repo-not-found", f"The DOI {shown(doi)} does not exist: check it.")
                    if not response.has_redirect_location:
                        break
                    url = urljoin(url, response.headers["location"])
                    if host_of(url) not in hosts:
                        break
                    found = _LANDING.fullmatch(urlsplit(url).path)
                    if found and host_of(url) == host_of(self._base):
                        return found[1]
        except (httpx.TransportError, httpx.InvalidURL, TimeoutError, ValueError):
            raise TransientError(f"The server that knows the DOI {shown(doi)} did not answer") from None
        if status >= 500:
            raise TransientError(f"{host_of(url)} answered with HTTP status {status}")
        raise UserError("repo-not-found", f"The DOI {shown(doi)} is not one of a record on Zenodo.")

    async def fetch(self, repo: Repo, into: Path, log: Log) -> bool | None:
        if not isinstance(repo.source, DoiSource):
            raise PluginError(self.context.name, f"cannot fetch a {type(repo.source).__name__}", "fetch")
        files = self._files(await self._record(repo.source.record))
        for file in files:
            log.line(f"Fetching {shown(file.name)} ({file.size} bytes)\n", "fetching")
        config = self.config
        downloads = Downloads(self.context.http, self.context.git.guard, self.context.git.retry, config.record_limit)
        try:
            async with asyncio.timeout(config.fetch_timeout):
                await downloads.into(into, files)
                alone = into / files[0].name
                if len(files) == 1 and await asyncio.to_thread(zipfile.is_zipfile, alone):
                    log.line(f"Unpacking {shown(files[0].name)}\n", "fetching")
                    await unpack(alone, into, config.record_limit)
        except TimeoutError:
            raise TransientError("Zenodo did not send the record in time") from None
        return True

    def _files(self, record: Mapping[str, Any]) -> list[RecordFile]:
        found = record.get("files")
        files = [self._file(entry) for entry in found] if isinstance(found, list) else []
        if not files:
            raise UserError(
                "repo-not-found",
                f"Record {record['id']} has no files that are open: it may be restricted or under embargo.",
            )
        return files

    def _file(self, entry: Any) -> RecordFile:
        """Raises TransientError for what has not the documented form."""
        try:
            links = entry["links"]
            # Older answers have a `download` beside a `self` that is no content.
            url = links.get("download") or links["self"]
            file = RecordFile(str(entry["key"]), int(entry["size"]), str(url), str(entry.get("checksum") or ""))
            host = host_of(file.url)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            host, file = "", RecordFile("", -1, "")
        if file.size < 0:
            raise TransientError("Zenodo describes a file of the record in an unknown form")
        if host != host_of(self._base):
            raise UserError("record-unusable", f"The file {shown(file.name)} is not at Zenodo.")
        return file

    async def doctor(self) -> Sequence[Finding]:
        try:
            answer = await self._api.get("/records?size=1")
        except TransientError as trouble:
            return [Finding("error", str(trouble), f"Check that this machine may reach {self._base}.")]
        left = answer.headers.get("x-ratelimit-remaining")
        quota = f"; {left} requests are left for now" if left else ""
        return [Finding("ok", f"Zenodo is reachable{quota}")]


def parse(text: str) -> str:
    """The DOI that a spec is. Raises `UserError`."""
    doi = decoded(text.strip("/"), "DOI").removeprefix("doi:").removeprefix("https://doi.org/")
    if not _DOI.fullmatch(doi) or any(part in {"", ".", ".."} for part in doi.split("/")):
        raise invalid(f'Spec is not a DOI such as "10.5281/zenodo.3242074", provided: "{shown(text)}".')
    return doi
