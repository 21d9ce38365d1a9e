"""An image that is not there, told from a wrong password: each registry answers in its own way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from attrs import field, frozen
from realparts.parts import PASSWORD
from ringbinder.errors import ConfigError
from ringbinder.plugins.context import Context
from ringbinder.secret import Secret
from ringbinder.testing import make_context
from ringbinder_registries._credentials import Credentials
from ringbinder_registries.dockerhub import DockerHubRegistry
from ringbinder_registries.oci import OciRegistry

from .conftest import plan

RIGHT = Credentials("r.example", "builder", Secret(PASSWORD)).basic()


@frozen
class StandIn:
    """A registry: how it refuses a password, and what it answers where nothing is."""

    realm: str = "/token"
    """Empty: it takes passwords, and has no tokens."""
    wrong: int = 401
    missing: int = 404
    error: str = ""
    """In the challenge of a refusal."""
    challenge: str | None = None
    """The whole challenge of a refusal, where it is another than the usual one."""
    no_token: int = 0
    """How the token server refuses a token for what is missing."""
    message: str = "manifest unknown"
    kind: type[OciRegistry[Any]] = OciRegistry
    asked: list[tuple[str, str]] = field(factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.method, request.url.path))
        authorization = request.headers.get("authorization", "")
        if request.url.path == self.realm:
            if authorization != RIGHT:
                return self._error(self.wrong, "denied")
            if self.no_token and request.url.params.get("scope"):
                return self._error(self.no_token, self.message)
            return httpx.Response(200, json={"token": "opaque"})
        if authorization != ("Bearer opaque" if self.realm else RIGHT):
            return self._error(401, "who are you?", self._challenge())
        if request.url.path == "/v2/":
            return httpx.Response(200, json={})
        challenge = self._challenge(self.error) if self.challenge is None else self.challenge
        return self._error(self.missing, self.message, challenge)

    def _challenge(self, error: str = "") -> str:
        if not self.realm:
            return 'Basic realm="r"'
        return f'Bearer realm="https://r.example{self.realm}",service="s"' + (f',error="{error}"' if error else "")

    def _error(self, status: int, message: str, challenge: str = "") -> httpx.Response:
        body = json.dumps({"errors": [{"code": "DENIED", "message": message}]})
        return httpx.Response(status, text=body, headers={"www-authenticate": challenge} if status == 401 else {})


# Sources: `endpoints/v2` of Quay, `src/server/middleware/v2auth` of Harbor, `ContainerRegistryAuthenticationService`
# of GitLab, the token authentication of CNCF distribution, sigstore/cosign#2973 (Artifactory), messages of
# ghcr.io and pkg.dev as they are quoted in sigstore/scaffolding#127 and argoproj/argo-cd#26260.
ANSWERS = {
    "quay": StandIn("/v2/auth", missing=401),
    "docker hub": StandIn(missing=401, error="insufficient_scope", kind=DockerHubRegistry),
    "distribution": StandIn(),
    "distribution, password": StandIn(realm=""),
    "harbor": StandIn("/service/token"),
    "gitlab": StandIn("/jwt/auth", wrong=403),
    "ghcr": StandIn(wrong=403),
    "ecr": StandIn(realm="", message="The repository with name 'x' does not exist"),
    "acr": StandIn("/oauth2/token"),
    "google": StandIn("/v2/token"),
}
REFUSALS = {
    "artifactory": StandIn("/v2/token", missing=403, message="Download request is forbidden for user"),
    "ghcr": StandIn(wrong=403, missing=403, message="denied"),
    "ghcr, token": StandIn(wrong=403, no_token=403, message="denied"),
    "google": StandIn("/v2/token", no_token=403, message="Permission denied (or it may not exist)"),
    "gitlab, no project": StandIn("/jwt/auth", missing=401, error="insufficient_scope"),
    "harbor, no project": StandIn("/service/token", missing=401, challenge="", message="project x not found"),
    "password": StandIn(realm="", missing=401, challenge='Basic realm="r"'),
}


async def check(stand_in: StandIn, folder: Path, password: str = PASSWORD, **options: Any) -> Any:
    context = make_context(folder, "oci", answer=stand_in)
    try:
        return await _registry(stand_in, context, password, **options).check(plan("r.example/x/y:1"), fresh=True)
    finally:
        await context.services.close()


def _registry(stand_in: StandIn, context: Context, password: str, **options: Any) -> OciRegistry[Any]:
    config = stand_in.kind.Config(
        url="https://r.example", username="builder", password=Secret(password), retries=0,
        image_prefix="r.example/x/y-", **options,
    )  # fmt: skip
    return stand_in.kind(config, context)


@pytest.mark.parametrize("name", ANSWERS)
async def test_missing_image_with_right_password_is_none(name: str, tmp_path: Path) -> None:
    assert await check(ANSWERS[name], tmp_path) is None


@pytest.mark.parametrize("stand_in", [*ANSWERS.values(), *REFUSALS.values()])
@pytest.mark.parametrize("option", [None, True, False])
async def test_wrong_password_is_never_a_missing_image(stand_in: StandIn, option: bool | None, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not accept the password|check DockerRegistry\.username and pass"):
        await check(stand_in, tmp_path, "not-the-word", not_found_401=option)


@pytest.mark.parametrize("name", REFUSALS)
async def test_refusal_with_right_password_names_the_option(name: str, tmp_path: Path) -> None:
    stand_in = REFUSALS[name]
    with pytest.raises(ConfigError, match=r"password.*right to.*not_found_401: true") as caught:
        await check(stand_in, tmp_path)
    assert stand_in.message in str(caught.value)
    assert "check DockerRegistry" not in str(caught.value)
    assert await check(stand_in, tmp_path, not_found_401=True) is None


@pytest.mark.parametrize("name", ["quay", "gitlab", "gitlab, no project"])
async def test_doctor_makes_no_repository_at_quay_or_gitlab(name: str, tmp_path: Path) -> None:
    stand_in = {**ANSWERS, **REFUSALS}[name]
    context = make_context(tmp_path, "oci", answer=stand_in)
    findings = await _registry(stand_in, context, PASSWORD).doctor()
    await context.services.close()
    assert findings[-1].level == ("error" if "no project" in name else "ok")
    assert ("was not asked whether we may push" in findings[-1].message) == (findings[-1].level == "ok")
    assert not any(method == "POST" for method, _ in stand_in.asked)


async def test_doctor_where_repositories_are_made_first_is_reported(tmp_path: Path) -> None:
    stand_in = ANSWERS["ecr"]
    context = make_context(tmp_path, "oci", answer=stand_in)
    *_, finding = await _registry(stand_in, context, PASSWORD).doctor()
    await context.services.close()
    assert (finding.level, "makes no repository when one is pushed to" in finding.message) == ("error", True)
