"""What `ringbinder doctor` finds out about a registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ringbinder import ConfigError, Finding, TransientError
from ringbinder.image_reference import Reference

from ._client import RegistryClient
from ._credentials import Credentials, host_of
from ._options import HUB

_TRIAL: Final = "ringbinder-doctor"
_LOGIN: Final = (
    "set DockerRegistry.username and password, the Helm values registry.*, or docker's config.json "
    "(DockerRegistry.docker_config_path)"
)


def trial_repository(prefix: str, address: str) -> str:
    """A repository that no one uses, where images with this prefix go; empty if that is nowhere."""
    path = Reference.parse(f"{prefix}{_TRIAL}".replace("_", "-").lower()).path
    return "" if host_of(address) == HUB and "/" not in path else path


async def examine(
    client: RegistryClient, credentials: Credentials | None, trial: str, probe: tuple[str, str] | None
) -> Sequence[Finding]:
    """Is it reachable, does it accept us, may we push to the repository `trial`, what is left of a quota.

    It leaves nothing in the registry.
    """
    try:
        offer = await client.ping()
    except (TransientError, ConfigError) as error:
        fix = "check DockerRegistry.url and BinderHub.image_prefix, and that this machine can reach that host"
        return [Finding("error", str(error), fix)]
    how = {"bearer": "asks for a token", "basic": "asks for a password"}.get(offer.scheme, "asks for nothing")
    findings = [Finding("ok", f"{client.title} is reachable ({client.url}, {how})")]
    if not trial:
        message = f"{client.title} takes images of an account only, and BinderHub.image_prefix names none"
        return [*findings, Finding("error", message, "set BinderHub.image_prefix, such as account/binder-")]
    who = f"accepts {credentials.username}" if credentials else "answers without a password"
    try:
        await client.manifest(trial, "latest")
        findings.append(Finding("ok", f"{client.title} {who}"))
        findings.append(Finding("ok", f"{client.title} {await client.try_push(trial)}"))
        findings += await _quota(client, probe) if probe else []
    except (TransientError, ConfigError) as error:
        login = str(error).startswith(("DockerRegistry.username", "DockerRegistry.password"))
        findings.append(Finding("error", str(error), _LOGIN if login else ""))
    return findings


async def _quota(client: RegistryClient, probe: tuple[str, str]) -> Sequence[Finding]:
    """Source: Docker Hub's documentation of its pull limits; a HEAD does not count as a pull."""
    if (manifest := await client.manifest(*probe)) is None:
        return []
    left, limit = (manifest.headers.get(f"ratelimit-{name}", "") for name in ("remaining", "limit"))
    (number, _, window), (of, _, _) = left.partition(";w="), limit.partition(";w=")
    if not number.isdecimal():
        return [Finding("ok", f"{client.title} names no limit of pulls")]
    hours = f" in {int(window) / 3600:g} hours" if window.isdecimal() else ""
    message = f"{client.title} has {number} of {of or 'its'} pulls{hours} left for us"
    return [
        Finding("ok", message)
        if int(number)
        else Finding("warning", message, "nodes will not get images until then; log in, or take a larger plan")
    ]
