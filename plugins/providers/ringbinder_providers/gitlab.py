"""Provider `gl`: projects on GitLab.com or another GitLab server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, unquote

from attrs import frozen
from ringbinder import (
    Context,
    Finding,
    GitSource,
    LaunchRequest,
    Link,
    ProviderInfo,
    Repo,
    Secret,
    TransientError,
    option,
)
from ringbinder.git import FULL_SHA, ResolvedRef, credentials, decoded, ref_name
from ringbinder.specs import shown

from ._api import Answer, TokenRefused
from ._hosted import Hosted, HostOptions, addressed, longer_name
from ._pages import Opened, page, ref_and_path, to_open
from ._specs import escaped, invalid

_NAME: Final = re.compile(r"(?!\.{1,2}\Z)[\w.+-]+", re.ASCII)
_WITH_REF: Final = frozenset({"tree", "blob", "raw", "edit", "blame", "commits", "commit", "tags", "releases"})


@frozen
class GitLabOptions(HostOptions):
    """Section `GitLabRepoProvider`."""

    hostname: str = option(default="gitlab.com", help="Host of the GitLab server.")
    api_base_path: str = option(
        default="https://{hostname}/api/v4", help="Address of the API; {hostname} stands for the host."
    )
    clone_base_url: str = option(
        default="https://{hostname}", help="Where projects are read from; {hostname} stands for the host."
    )
    private_token: Secret = option(
        factory=lambda: Secret(""),
        env="GITLAB_PRIVATE_TOKEN",
        inherited=False,
        help="Personal, group or project access token for the API and for private projects.",
    )
    access_token: Secret = option(
        factory=lambda: Secret(""),
        env="GITLAB_ACCESS_TOKEN",
        inherited=False,
        help="OAuth 2 access token, for the same.",
    )


@frozen
class Spec:
    """``<url-escaped-namespace>/<ref>``. `quoted` is the namespace as it was given."""

    namespace: str
    ref: str
    quoted: str


class GitLabProvider(Hosted[GitLabOptions]):
    """Specs are ``<url-escaped-namespace>/<ref>`` (BinderHub's grammar): ``group%2Fsub%2Fproject/main``."""

    Config = GitLabOptions
    sections = ("RepoProvider", "GitLabRepoProvider")
    access_options = "GitLabRepoProvider.private_token or GITLAB_PRIVATE_TOKEN"

    def __init__(self, config: GitLabOptions, context: Context) -> None:
        super().__init__(config, context)
        host = config.hostname
        self.title = "GitLab" if host == "gitlab.com" else f"GitLab at {host}"
        # In headers, not in the query as BinderHub has them: addresses are logged.
        headers: dict[str, str] = {}
        if config.private_token:
            headers["PRIVATE-TOKEN"] = config.private_token.reveal()
        elif config.access_token:
            headers["Authorization"] = f"Bearer {config.access_token.reveal()}"
        self.gitlab = self.api(self.title, addressed(config.api_base_path, host), headers)

    def describe(self) -> ProviderInfo:
        host = self.config.hostname
        example = "mosaik/examples/mosaik-tutorials-on-binder"
        return ProviderInfo(
            display_name="GitLab",
            spec_regex=r"[^/]+/.+",
            repo_label="GitLab repository name or URL",
            repo_placeholder=f"example: https://{host}/{example} or {example}",
            repo_url_encode=True,
            detect_regex=rf"^(https?://{re.escape(host)}/)?(?<repo>.*[^/])/?",
        )

    def recognize(self, link: str) -> Link | None:
        parts = page(link, {self.config.hostname})
        if parts is None:
            return None
        # Pages of a project stand behind "-"; older addresses lack it, but no project may have such a name.
        end = next((i for i, part in enumerate(parts) if i > 1 and (part == "-" or part in _WITH_REF)), len(parts))
        namespace = [*parts[: end - 1], parts[end - 1].removesuffix(".git")] if end else []
        if len(namespace) < 2 or not all(_NAME.fullmatch(name) for name in namespace):
            return None
        rest = parts[end + 1 :] if parts[end : end + 1] == ("-",) else parts[end:]
        ref: str = "HEAD"
        path: Sequence[str] = ()
        match rest:
            case ["tags" | "releases", _, *_]:
                ref = "/".join(rest[1:])
            case [kind, _, *_] if kind in _WITH_REF:
                ref, path = ref_and_path(rest[1:])
            case ["merge_requests", number, *_] if number.isdecimal():
                ref = f"refs/merge-requests/{number}/head"
        return Link(self.context.name, f"{escaped('/'.join(namespace))}/{quote(ref)}", to_open(path))

    def token_credentials(self) -> Secret | None:
        """Sources: BinderHub's `git_credentials` of this provider; GitLab's documentation of OAuth 2 tokens."""
        if token := self.config.private_token.reveal():
            return credentials("binderhub", token)
        if token := self.config.access_token.reveal():
            return credentials("oauth2", token)
        return None

    def source(self, name: str) -> str:
        return f"{addressed(self.config.clone_base_url, self.config.hostname)}/{name}.git"

    async def resolve(self, request: LaunchRequest) -> Repo:
        spec = parse(request.spec)
        source = self.source(spec.namespace)
        opened = Opened.of(request.urlpath)
        found = await self.found(source, spec.ref, lambda: self._asked(spec), opened.path)
        sha = found.commit
        page = f"https://{self.config.hostname}/{spec.namespace}"
        return Repo(
            url=f"{page}.git",
            source=GitSource(source, sha),
            ref=sha,
            resolved_spec=f"{spec.quoted}/{sha}",
            ref_url=f"{page}/tree/{sha}",
            slug="-".join(part.replace("-", "_-") for part in spec.namespace.split("/")),
            credentials=self.handed_on(found),
            private=found.private,
            notices=longer_name(spec.ref, opened, found),
            urlpath=opened.without(found.words) if found.words else None,
        )

    async def _asked(self, spec: Spec) -> ResolvedRef | None:
        """What the API says; None where git knows better, or can say what was meant."""
        project = f"/projects/{escaped(spec.namespace)}"
        commit = self._get(f"{project}/repository/commits/{escaped(spec.ref)}?stats=false")
        answer, private = await asyncio.gather(commit, self._private(project))
        unknown = answer.status == 404 and "project" in answer.text("message").lower()
        if unknown and not self.config.git_credentials:
            raise self.missing(spec.namespace, self.title)
        if answer.status == 404 and not unknown and FULL_SHA.fullmatch(spec.ref):
            raise self.no_commit(spec.namespace, self.title, spec.ref)
        sha = answer.text("id")
        return ResolvedRef(sha, private) if answer.status == 200 and FULL_SHA.fullmatch(sha) else None

    async def _private(self, project: str) -> bool:
        """Whether only our token opens it; also true if that cannot be found out."""
        if self.credentials is None:
            return False
        answer = await self._get(project)
        return answer.text("visibility") != "public"

    async def _get(self, path: str) -> Answer:
        """As `Api.get`. Raises TransientError also where the API does not want us."""
        answer = await self.gitlab.get(path)
        if answer.status == 401:
            raise TokenRefused(self.title)
        if answer.status in (403, 429):
            raise TransientError(f"{self.title} refuses: HTTP status {answer.status}", answer.retry_after)
        return answer

    async def doctor(self) -> Sequence[Finding]:
        with_token = self.credentials is not None
        try:
            await self._get("/user" if with_token else "/projects?per_page=1&simple=true")
        except TransientError as trouble:
            return [self.finding(self.title, trouble)]
        message = "and accepts the access token" if with_token else "without an access token: public projects only"
        return [Finding("ok", f"{self.title} is reachable {message}")]


def parse(text: str) -> Spec:
    """A spec as it stands in the link. Raises `UserError`."""
    quoted, _, ref = text.partition("/")
    form = f'Spec is not of the form "url-escaped-namespace/ref", provided: "{shown(text)}".'
    if not quoted:
        raise invalid(form)
    namespace = decoded(quoted, "project").removesuffix(".git")
    parts = namespace.split("/")
    if len(parts) < 2:
        given = [part for part in text.split("/") if part]
        # Groups have groups, so the last part alone is taken for the ref.
        project, last = (given[:-1], given[-1]) if len(given) > 2 else (given, "HEAD")
        meant = f"{escaped('/'.join(map(unquote, project)))}/{last}"
        raise invalid(form + (f' Did you mean "{shown(meant)}"?' if len(given) > 1 else ""))
    for part in parts:
        if not _NAME.fullmatch(part):
            raise invalid(f'"{shown(namespace)}" cannot be the path of a project on GitLab.')
    if not ref:
        raise invalid(f'{form} Did you mean "{shown(quoted)}/HEAD"?')
    return Spec(namespace, ref_name(ref), quoted)
