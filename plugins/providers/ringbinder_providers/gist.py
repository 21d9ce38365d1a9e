"""Provider `gist`: gists on GitHub."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import frozen
from ringbinder import GitSource, LaunchRequest, Link, ProviderInfo, Refused, Repo, TransientError, UserError, option
from ringbinder.git import FULL_SHA, ResolvedRef, decoded, ref_name
from ringbinder.specs import shown

from ._github_host import GitHubHosted, GitHubHostOptions
from ._hosted import addressed
from ._pages import page, to_open
from ._specs import invalid

_USER: Final = re.compile(r"(?!\.{1,2}\Z)[\w.-]+", re.ASCII)
_ID: Final = re.compile(r"[0-9A-Za-z]{1,64}")
_LATEST: Final = frozenset({"HEAD", "main", "master"})
"""Refs that mean the newest version: a gist has one branch, whose name does not matter."""


@frozen
class GistOptions(GitHubHostOptions):
    """Section `GistRepoProvider`."""

    gist_base_url: str = option(
        default="https://gist.{hostname}", help="Where gists are read from; {hostname} stands for the host."
    )
    allow_secret_gist: bool = option(
        default=False, help="Launch secret gists as well: those that only who knows the address finds."
    )


@frozen
class Spec:
    """``<user>/<id>[/<ref>]``, decoded; `ref` is HEAD if there is none."""

    user: str
    id: str
    ref: str


class GistProvider(GitHubHosted[GistOptions]):
    """Specs are ``<user>/<gist id>[/<ref>]`` (BinderHub's grammar); the ref is a commit, or HEAD, main or master."""

    Config = GistOptions
    sections = ("RepoProvider", "GitHubRepoProvider", "GistRepoProvider")
    what = "gist"

    def describe(self) -> ProviderInfo:
        host = re.escape(f"gist.{self.config.hostname}")
        return ProviderInfo(
            display_name="Gist",
            spec_regex=r"[^/]+/[^/]+(/[^/]+)?",
            repo_label="Gist ID (username/gistId) or URL",
            repo_placeholder="example: someuser/0123456789abcdef0123456789abcdef or its https:// address",
            detect_regex=rf"^(https?://{host}/)?(?<repo>.*[^/])/?",
        )

    def recognize(self, link: str) -> Link | None:
        parts = page(link, {f"gist.{self.config.hostname}"})
        path: Sequence[str] = ()
        if parts is None and self.config.hostname == "github.com":
            raw = page(link, {"gist.githubusercontent.com"}) or ()
            match raw:
                case [user, id, "raw", sha, *path] if FULL_SHA.fullmatch(sha):
                    parts = (user, id, sha)
                case [user, id, "raw", *path]:
                    parts = (user, id)
        if parts is None or len(parts) < 2:
            return None
        user, id = parts[0], parts[1].removesuffix(".git")
        if not _USER.fullmatch(user) or not _ID.fullmatch(id):
            return None
        ref = parts[2] if len(parts) > 2 and FULL_SHA.fullmatch(parts[2]) else "HEAD"
        return Link(self.context.name, f"{user}/{id}/{ref}", to_open(path))

    def source(self, name: str) -> str:
        return f"{addressed(self.config.gist_base_url, self.config.hostname)}/{name}.git"

    async def resolve(self, request: LaunchRequest) -> Repo:
        spec = parse(request.spec)
        name = f"{spec.user}/{spec.id}"
        found = await self._commit(spec, self.source(name))
        sha, page = found.commit, f"https://gist.{self.config.hostname}/{name}"
        return Repo(
            url=f"{page}.git",
            source=GitSource(self.source(name), sha),
            ref=sha,
            resolved_spec=f"{name}/{sha}",
            ref_url=f"{page}/{sha}",
            slug=spec.id,
            private=found.private,
        )

    async def _commit(self, spec: Spec, source: str) -> ResolvedRef:
        listed = self.config.allowed_specs or self.config.banned_specs
        if self.config.allow_secret_gist and not listed:
            return await self.found(source, spec.ref, lambda: self._asked(spec))
        # git does not tell a secret gist from a public one, nor whose it is.
        return await self._asked(spec)

    async def _asked(self, spec: Spec) -> ResolvedRef:
        """Source: GitHub's "Get a gist" and "Get a gist revision"."""
        path = f"/gists/{spec.id}"
        answer = await self.github.get(path)
        if answer.status == 404:
            raise self.missing(f"{spec.user}/{spec.id}", self.title)
        gist = answer.content if isinstance(answer.content, dict) else {}
        secret = gist.get("public") is not True
        if secret and not self.config.allow_secret_gist:
            raise Refused("This gist is secret, and secret gists may not be launched here.")
        versions = _versions(gist)
        if answer.status != 200 or not versions:
            raise TransientError(f"{self.title} answered with something that is no gist")
        if (owner := _owner(gist)).casefold() != spec.user.casefold():
            # The id alone names a gist: with another user, lists of specs would not see whose it is.
            raise UserError(
                "repo-not-found", f"The gist {spec.id} is {shown(owner)}'s: the link is {shown(owner)}/{spec.id}."
            )
        if spec.ref == "HEAD":
            return ResolvedRef(versions[0], secret)
        if spec.ref in versions:
            return ResolvedRef(spec.ref, secret)
        # The list holds the newest versions only.
        if (await self.github.get(f"{path}/{spec.ref}")).status == 200:
            return ResolvedRef(spec.ref, secret)
        raise UserError("ref-not-found", f"The gist {spec.user}/{spec.id} has no version {spec.ref}.")


def _owner(gist: Mapping[str, Any]) -> str:
    owner = gist.get("owner")
    login = owner.get("login") if isinstance(owner, dict) else None
    return login if isinstance(login, str) and login else "anonymous"


def _versions(gist: Mapping[str, Any]) -> list[str]:
    history = gist.get("history")
    entries = history if isinstance(history, list) else []
    found = [entry.get("version") for entry in entries if isinstance(entry, dict)]
    return [version for version in found if isinstance(version, str) and FULL_SHA.fullmatch(version)]


def parse(text: str) -> Spec:
    """A spec as it stands in the link. Raises `UserError`."""
    parts = text.rstrip("/").split("/", 2)
    if len(parts) < 2 or not all(parts):
        raise invalid(f'Spec is not of the form "user/gist_id" or "user/gist_id/ref", provided: "{shown(text)}".')
    user, id = decoded(parts[0], "user"), decoded(parts[1], "gist").removesuffix(".git")
    if not _USER.fullmatch(user):
        raise invalid(f'"{shown(user)}" cannot be the name of a user on GitHub.')
    if not _ID.fullmatch(id):
        raise invalid(f'"{shown(id)}" cannot be the id of a gist.')
    ref = ref_name(parts[2]) if len(parts) > 2 else "HEAD"
    if ref in _LATEST:
        return Spec(user, id, "HEAD")
    if not FULL_SHA.fullmatch(ref):
        raise UserError(
            "ref-not-found", f'A gist has no branch or tag "{shown(ref)}": give HEAD, or all 40 characters of a commit.'
        )
    return Spec(user, id, ref.lower())
