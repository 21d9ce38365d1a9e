"""Repositories that do not exist."""

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from attrs import frozen
from ringbinder import Context, Duration, GitSource, LaunchRequest, Log, Provider, ProviderInfo, Repo, UserError, option

from .faults import FakeOptions, Faults

_HOST: Final = "https://fake.invalid"  # a name that can never exist (RFC 2606)
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


@frozen
class FakeProviderOptions(FakeOptions):
    resolve_seconds: Duration = option(0.0, help="How long it takes to resolve a reference.")


class FakeProvider(Provider[FakeProviderOptions]):
    """Any ``owner/name/ref`` exists; its commit is made from it: the same spec is the same commit."""

    Config = FakeProviderOptions
    sections = ("Fake", "FakeProvider")

    def __init__(self, config: FakeProviderOptions, context: Context) -> None:
        super().__init__(config, context)
        self._faults = Faults(config)

    def describe(self) -> ProviderInfo:
        return ProviderInfo(
            display_name="Fake",
            spec_regex="[^/]+/[^/]+/.+",
            repo_label="Fake repository (nothing is fetched)",
            repo_placeholder="owner/name",
        )

    async def resolve(self, request: LaunchRequest) -> Repo:
        owner, name, ref = _parts(request.spec)
        await self.context.clock.sleep(self.config.resolve_seconds)
        await self._faults.at("resolve")
        commit = ref if _COMMIT.fullmatch(ref) else hashlib.sha1(f"{owner}/{name}/{ref}".encode()).hexdigest()  # noqa: S324
        repository = f"{quote(owner, safe='')}/{quote(name, safe='')}"
        url = f"{_HOST}/{repository}"
        return Repo(
            url=url,
            source=GitSource(url, commit),
            ref=commit,
            resolved_spec=f"{repository}/{commit}",
            ref_url=f"{url}/tree/{commit}",
            slug=f"fake-{owner}-{name}",
        )

    async def fetch(self, repo: Repo, into: Path, log: Log) -> bool:
        log.line(f"Fake provider: nothing is fetched for {repo.url}\n", "fetching")
        text = f"# A fake repository\n\nStands for {repo.url} at {repo.ref}; nothing was fetched.\n"
        await asyncio.to_thread((into / "README.md").write_text, text, encoding="utf-8")
        return True


def _parts(spec: str) -> tuple[str, str, str]:
    parts = [unquote(part) for part in spec.split("/", 2)]
    # What cannot be printed, lone surrogates included, cannot be quoted or named after either.
    if len(parts) == 3 and all(part and part.isprintable() for part in parts):
        return parts[0], parts[1], parts[2]
    raise UserError("spec-invalid", f'Spec is not of the form "owner/name/ref", provided: "{spec}".')
