"""Provider `gh`: repositories on GitHub or a GitHub Enterprise server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from attrs import frozen
from ringbinder import GitSource, LaunchRequest, Link, ProviderInfo, Repo, UserError, option
from ringbinder.git import FULL_SHA, ResolvedRef, decoded, ref_name
from ringbinder.specs import shown

from ._github_host import GitHubHosted, GitHubHostOptions
from ._hosted import addressed, longer_name
from ._pages import Opened, page, ref_and_path, to_open
from ._specs import invalid

_NAME: Final = re.compile(r"(?!\.{1,2}\Z)[\w.-]+", re.ASCII)
_WITH_REF: Final = frozenset({"tree", "blob", "raw", "edit", "blame", "commits", "commit"})


@frozen
class GitHubOptions(GitHubHostOptions):
    """Section `GitHubRepoProvider`."""

    clone_base_url: str = option(
        default="https://{hostname}", help="Where repositories are read from; {hostname} stands for the host."
    )


@frozen
class Spec:
    """``<user>/<repo>/<ref>``, decoded."""

    user: str
    repo: str
    ref: str


class GitHubProvider(GitHubHosted[GitHubOptions]):
    """Specs are ``<user>/<repo>/<ref>`` (BinderHub's grammar); the ref may contain slashes."""

    Config = GitHubOptions
    sections = ("RepoProvider", "GitHubRepoProvider")

    def describe(self) -> ProviderInfo:
        host = self.config.hostname
        return ProviderInfo(
            display_name="GitHub",
            spec_regex=r"[^/]+/[^/]+/.+",
            repo_label="GitHub repository name or URL",
            repo_placeholder=f"example: binder-examples/requirements or https://{host}/binder-examples/requirements",
            detect_regex=rf"^(https?://{re.escape(host)}/)?(?<repo>.*[^/])/?",
        )

    def recognize(self, link: str) -> Link | None:
        parts = page(link, {self.config.hostname})
        if parts is None and self.config.hostname == "github.com":
            raw = page(link, {"raw.githubusercontent.com"})
            parts = (*raw[:2], "raw", *raw[2:]) if raw and len(raw) > 3 else None
        if parts is None or len(parts) < 2:
            return None
        user, repo, *rest = parts
        repo = repo.removesuffix(".git")
        if not _NAME.fullmatch(user) or not _NAME.fullmatch(repo):
            return None
        ref: str = "HEAD"
        path: Sequence[str] = ()
        match rest:
            case [kind, _, *_] if kind in _WITH_REF:
                ref, path = ref_and_path(rest[1:])
            case ["releases", "tag", _, *_]:
                ref = "/".join(rest[2:])
            case ["pull", number, *_] if number.isdecimal():
                ref = f"refs/pull/{number}/head"
        return Link(self.context.name, f"{user}/{repo}/{quote(ref)}", to_open(path))

    def source(self, name: str) -> str:
        return f"{addressed(self.config.clone_base_url, self.config.hostname)}/{name}"

    async def resolve(self, request: LaunchRequest) -> Repo:
        spec = parse(request.spec)
        name = f"{spec.user}/{spec.repo}"
        opened = Opened.of(request.urlpath)
        found, notices = await self._rescued(name, spec.ref, opened.path)
        sha = found.commit
        url = f"https://{self.config.hostname}/{name}"
        return Repo(
            url=url,
            source=GitSource(self.source(name), sha),
            ref=sha,
            resolved_spec=f"{name}/{sha}",
            ref_url=f"{url}/tree/{sha}",
            slug=f"{spec.user}-{spec.repo}",
            credentials=self.handed_on(found),
            private=found.private,
            notices=notices + longer_name(spec.ref, opened, found),
            urlpath=opened.without(found.words) if found.words else None,
        )

    async def _rescued(self, name: str, ref: str, words: Sequence[str]) -> tuple[ResolvedRef, tuple[str, ...]]:
        """Old links name a default branch that was renamed since: then HEAD is tried, as BinderHub does."""
        try:
            return await self._commit(name, ref, words), ()
        except UserError as error:
            if error.code != "ref-not-found" or ref not in {"main", "master"}:
                raise
            try:
                found = await self._commit(name, "HEAD")
            except UserError:
                raise error from None
        why = 'GitHub has changed default branches from "master" to "main". ' if ref == "master" else ""
        return found, (
            f'There is no branch "{ref}" in {name}. {why}'
            f'HEAD always means the default branch and is used instead: please change the link to "{name}/HEAD".',
        )

    async def _commit(self, name: str, ref: str, words: Sequence[str] = ()) -> ResolvedRef:
        return await self.found(self.source(name), ref, lambda: self._asked(name, ref), words)

    async def _asked(self, name: str, ref: str) -> ResolvedRef | None:
        """What the API says; None where git knows better, or can say what was meant.

        Source: GitHub's "Get a commit" (404 no such repository, 409 an empty one, 422 no such ref).
        """
        # The number of files per page bounds the answer; the commit's own id is all that is wanted.
        commit = self.github.get(f"/repos/{name}/commits/{quote(ref)}?per_page=1")
        answer, private = await asyncio.gather(commit, self._private(name))
        if answer.status == 404 and not ref.startswith(("refs/", "pull/")) and not self.config.git_credentials:
            raise self.missing(name, self.title)
        if answer.status == 422 and FULL_SHA.fullmatch(ref):
            raise self.no_commit(name, self.title, ref)
        sha = answer.text("sha")
        return ResolvedRef(sha, private) if answer.status == 200 and FULL_SHA.fullmatch(sha) else None

    async def _private(self, name: str) -> bool:
        """Whether only our token opens it; also true if that cannot be found out."""
        if not self.config.access_token:
            return False
        answer = await self.github.get(f"/repos/{name}")
        return not (isinstance(answer.content, dict) and answer.content.get("private") is False)


def parse(text: str) -> Spec:
    """A spec as it stands in the link. Raises `UserError` with the text that BinderHub's clients know."""
    parts = text.split("/", 2)
    if len(parts) != 3 or not all(parts):
        message = f'Spec is not of the form "user/repo/ref", provided: "{shown(text)}".'
        given = text.rstrip("/")
        if given.count("/") == 1 and given.split("/")[1] not in {"", "main", "master", "HEAD"}:
            message += f' Did you mean "{shown(given)}/HEAD"?'
        raise invalid(message)
    user = decoded(parts[0], "user")
    repo = decoded(parts[1], "repository").removesuffix(".git")
    for what, name in (("user", user), ("repository", repo)):
        if not _NAME.fullmatch(name):
            raise invalid(f'"{shown(name)}" cannot be the name of a {what} on GitHub.')
    return Spec(user, repo, ref_name(parts[2]))
