"""How repo2docker is asked, and what its log says; shared by the builders that run it.

Source: BinderHub's build executors and repo2docker's JSON log (protocol reference, sections 5.2 and 1.3).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import define, field, frozen
from ringbinder import ArchiveSource, DoiSource, GitSource, Log, Phase, Plan, Secret, Source, UserError, option
from ringbinder.untrusted import MalformedError, parse_json

from .push_text import PushText

_PHASES: Final[Mapping[str, Phase]] = {
    "fetching": "fetching", "building": "building", "pushing": "pushing",
}  # fmt: skip
_LINE_VALUES: Final = 70_000
"""More than a line of a build's output has bytes: the text in it may be full of commas."""
_IDENTITY: Final = "<token>"
"""The user name that says, by docker's convention, that the password is an identity token."""
_FAILED: Final = frozenset({"failed", "failure"})
_COMMAND: Final = re.compile(r"Command '\[.*\]' returned non-zero exit status (-?\d+)\.?", re.DOTALL)


@frozen
class RegistryLogin:
    """Who pushes to the registry at the address `registry`."""

    registry: str
    username: str
    password: Secret

    def as_secret(self) -> Secret:
        """As `Target.credentials` has it."""
        login = {"registry": self.registry, "username": self.username, "password": self.password.reveal()}
        return Secret(json.dumps(login))


@frozen
class BuildExecutorOptions:
    """Section `BuildExecutor`: the options of every builder that runs repo2docker."""

    appendix: str = option(
        "", also="BinderHub.appendix", help="Lines for the end of every Dockerfile that repo2docker makes."
    )
    repo2docker_extra_args: tuple[str, ...] = option((), help="More arguments for repo2docker.")
    git_credentials: Secret = option(
        factory=lambda: Secret(""),
        help="Lines of git's credential format (`username=...`, `password=...`) for repositories whose provider "
        "has none.",
    )
    registry_credentials: RegistryLogin | None = option(
        None,
        help="What images are pushed with where the registry plugin has no credentials: `registry`, `username` "
        "and `password`.",
    )
    builder_info: dict[str, Any] = option(factory=dict, help="More keys for `builder_info` in `/versions`.")


def command(
    plan: Plan,
    options: BuildExecutorOptions,
    *,
    push: bool,
    content: Path | None = None,
    labels: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """The command line that builds `plan`, from the folder `content` if the content is there already.

    Raises UserError for content that repo2docker cannot get.
    """
    where, ref = (str(content), plan.repo.ref) if content else _place(plan.repo.source, plan.repo.ref)
    if where.startswith("-"):
        raise UserError("repo-not-found", f"{where} is no address of a repository.")
    words = ["jupyter-repo2docker", f"--ref={ref}", f"--image={plan.image}", "--no-clean", "--no-run"]
    words += ["--json-logs", "--user-name=jovyan", "--user-id=1000"]
    words += [f"--label={name}={value}" for name, value in labels.items()]
    if options.appendix:
        words += ["--appendix", options.appendix]
    if push:
        words.append("--push")
    return [*words, *options.repo2docker_extra_args, where]


def docker_auths(login: Secret) -> dict[str, dict[str, str]]:
    """The `auths` of docker's `config.json` with `login`, which is as in `Target.credentials`."""
    given = json.loads(login.reveal())
    username, password = given["username"], given["password"]
    if username == _IDENTITY:
        return {given["registry"]: {"identitytoken": password}}
    return {given["registry"]: {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}}


def git_configuration(url: str, file: str) -> str:
    """Lines of git's configuration: the host of `url` is sent what is in `file`, a word of the shell; no other is."""
    where = urlsplit(url)
    helper = f"!f() {{ cat {file}; }}; f".replace('"', '\\"')
    return f'[credential "{where.scheme}://{where.netloc.rpartition("@")[2]}"]\n\thelper = "{helper}"\n'


def _place(source: Source, ref: str) -> tuple[str, str]:
    match source:
        case GitSource(url, commit):
            return url, commit
        case DoiSource(doi):
            return doi, ref
        case ArchiveSource(url):
            raise UserError("unsupported-content", f"repo2docker cannot build from the archive {url}.")
        case _:
            raise UserError("unsupported-content", "A folder of this machine cannot be built elsewhere.")


@define
class LogReader:
    """Tells `log` what a line of repo2docker's JSON log says, for any line.

    Lines without a phase, and what is no JSON, belong to the phase before them. The text of a push that newer
    versions log while ``building`` becomes events of phase ``pushing`` with the state of every layer.
    """

    log: Log
    failure: str = ""
    """The last message that says that the build has failed."""
    _phase: Phase = "fetching"
    _push: PushText = field(factory=PushText)

    def receive(self, line: str) -> None:
        """Takes one line, with or without its newline. Never raises."""
        record = _record(line)
        if record is None:
            self.log.line(line, self._phase)
            return
        message, phase = record.get("message"), str(record.get("phase") or "").lower()
        text = message if isinstance(message, str) else json.dumps(record)
        if phase in _FAILED or "exc_info" in record:
            self.failure = text.strip() or self.failure
        if known := _PHASES.get(phase):
            self._phase = known
        if isinstance(progress := record.get("progress"), dict):
            self.log.progress(progress, text or "Pushing image\n")
        elif self._phase != "fetching" and (layers := self._push.receive(text)) is not None:
            if layers:
                self.log.progress(layers, text)
            else:
                self.log.line(text, "pushing")
        else:
            self.log.line(text, self._phase)

    @property
    def reason(self) -> str:
        """Why it failed, in the words of the log, fit for a sentence; empty if it does not say."""
        message = self.failure.partition("\n")[0].removeprefix("Error during build:").strip()[:4000]
        return _COMMAND.sub(r"a command ended with exit code \1", message)[:1000].rstrip(".")


def _record(line: str) -> Mapping[str, Any] | None:
    if not line.lstrip().startswith("{"):
        return None
    try:
        record = parse_json(line.encode(errors="replace"), values=_LINE_VALUES)
    except MalformedError:
        return None
    return record if isinstance(record, dict) and ("message" in record or "phase" in record) else None
