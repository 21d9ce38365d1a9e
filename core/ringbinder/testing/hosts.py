"""The web APIs of GitHub, GitLab and Zenodo in their documented shapes, as far as providers ask them.

Those of GitHub and GitLab answer from the real repositories of a `GitServer`. Sources: the hosts' documentation
of their REST APIs.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from attrs import define, field

from .apiserver import ApiServer, Reply
from .gitserver import GitServer, Repository


def commit_of(repository: Repository, ref: str) -> str | None:
    """The commit that a host's API takes `ref` for: also an abbreviated id."""
    for name in (f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/{ref}", ref):
        try:
            return repository.git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        except subprocess.CalledProcessError:
            continue
    return None


@define(eq=False)
class RepositoryApi(ApiServer):
    """What the two git hosts have in common. `private` names the repositories that only `token` opens."""

    git: GitServer = field(kw_only=True)
    """Has the repositories: ``user/name`` is ``user/name.git`` there."""
    token: str = "the-token-of-the-operator"  # noqa: S105
    """The one that is good."""
    private: set[str] = field(factory=set)
    """As ``user/name``."""

    def may(self, request: web.Request) -> bool | None:
        """Whether the request has the token; None if it has none."""
        given = request.headers.get("PRIVATE-TOKEN") or request.headers.get("Authorization")
        return None if given is None else given.rpartition(" ")[2] == self.token

    def repository(self, name: str, request: web.Request) -> Repository | None:
        folder = self.git.root / f"{name}.git"
        if not folder.is_dir() or (name in self.private and not self.may(request)):
            return None
        return Repository(folder)


@define(eq=False)
class GitHubApiServer(RepositoryApi):
    """GitHub's. `gists` maps the id of a gist to (is it public, versions from new to old); its
    owner is the user with a repository of that name."""

    gists: dict[str, tuple[bool, list[str]]] = field(factory=dict)
    """By the gist's id."""

    def content(self, path: str, request: web.Request) -> Any:
        if request.headers.get("Authorization", "").startswith("token ") and not self.may(request):
            return Reply(401, {"message": "Bad credentials"})
        match path.lstrip("/").split("/"):
            case ["rate_limit"]:
                return {"resources": {}}
            case ["repos", user, name]:
                if self.repository(f"{user}/{name}", request) is not None:
                    return {"full_name": f"{user}/{name}", "private": f"{user}/{name}" in self.private}
            case ["repos", user, name, "commits", *ref]:
                return self._commit(self.repository(f"{user}/{name}", request), unquote("/".join(ref)))
            case ["gists", id, *version] if id in self.gists:
                return self._gist(id, *version)
        return None

    def _commit(self, repository: Repository | None, ref: str) -> Any:
        if repository is None:
            return None
        if not repository.git("for-each-ref", "--count=1"):
            return Reply(409, {"message": "Git Repository is empty."})
        if sha := commit_of(repository, ref):
            return {"sha": sha, "commit": {}, "files": []}
        return Reply(422, {"message": f"No commit found for SHA: {ref}"})

    def _gist(self, id: str, version: str = "") -> Any:
        public, versions = self.gists[id]
        if version and version not in versions:
            return None
        # As GitHub does, only the newest are listed.
        listed = versions[versions.index(version) if version else 0 :][:30]
        owner = next((folder.parent.name for folder in self.git.root.glob(f"*/{id}.git")), None)
        return {
            "id": id,
            "public": public,
            "owner": owner and {"login": owner},
            "history": [{"version": sha} for sha in listed],
        }


@define(eq=False)
class GitLabApiServer(RepositoryApi):
    """GitLab's, below ``/api/v4``."""

    def content(self, path: str, request: web.Request) -> Any:
        if self.may(request) is False:
            return Reply(401, {"message": "401 Unauthorized"})
        match path.removeprefix("/api/v4/").split("/"):
            case ["user"]:
                return {"username": "binder"} if self.may(request) else Reply(401, {"message": "401 Unauthorized"})
            case ["projects"]:
                return []
            case ["projects", quoted, *rest]:
                name = unquote(quoted)
                if (repository := self.repository(name, request)) is None:
                    return Reply(404, {"message": "404 Project Not Found"})
                return self._project(name, repository, rest)
        return None

    def _project(self, name: str, repository: Repository, rest: list[str]) -> Any:
        match rest:
            case []:
                return {"path_with_namespace": name, "visibility": "private" if name in self.private else "public"}
            case ["repository", "commits", ref]:
                if sha := commit_of(repository, unquote(ref)):
                    return {"id": sha, "short_id": sha[:8]}
                return Reply(404, {"message": "404 Commit Not Found"})
        return None


@define(eq=False)
class ZenodoServer(ApiServer):
    """Zenodo's, and a resolver of DOIs below ``/doi-resolver``.

    `records` maps a record's number to its files, `newest` the number that stands for all versions to the
    newest one, `landings` a DOI to where it leads.
    """

    records: dict[str, Mapping[str, bytes]] = field(factory=dict)
    """By number; name of a file -> content."""
    newest: dict[str, str] = field(factory=dict)
    """By the number for all versions."""
    landings: dict[str, str] = field(factory=dict)
    """By DOI."""
    changed: dict[str, bytes] = field(factory=dict)
    """What is sent for a file of this name instead of what the record says of it."""

    def content(self, path: str, request: web.Request) -> Any:
        match [unquote(part) for part in path.lstrip("/").split("/")]:
            case ["api", "records"]:
                return {"hits": {"hits": [], "total": 0}}
            case ["api", "records", number] if number in self.newest:
                return Reply(301, {}, {"Location": f"/api/records/{self.newest[number]}"})
            case ["api", "records", number] if number in self.records:
                return self._record(number)
            case ["api", "records", number, "files", *name, "content"] if number in self.records:
                key = "/".join(name)
                return Reply(body=self.changed.get(key, self.records[number][key]))
            case ["doi-resolver", *doi] if landing := self.landings.get("/".join(doi)):
                return Reply(302, {}, {"Location": landing})
        return None

    def _record(self, number: str) -> Any:
        files = [
            {
                "key": name,
                "size": len(content),
                "checksum": "md5:" + hashlib.md5(content, usedforsecurity=False).hexdigest(),
                "links": {"self": f"{self.address}/api/records/{number}/files/{name}/content"},
            }
            for name, content in self.records[number].items()
        ]
        doi = f"10.5281/zenodo.{number}"
        return {"id": int(number), "recid": number, "doi": doi, "files": files, "metadata": {}}
