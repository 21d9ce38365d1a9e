"""The commands about this machine: whose code may run on it, and the work that its sessions have left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..configured import Setup, configured, json_output
from ..run import run

if TYPE_CHECKING:
    from ..invocation import Invocation


@click.group("consent")
def consents() -> None:
    """See and take back which repositories may run code on this computer."""


@consents.command("list")
@json_output
@configured
def list_consents(setup: Setup, as_json: bool) -> None:
    """List the repositories that were allowed to run code here."""

    async def work(invocation: Invocation) -> int:
        from ..consent import list_consents

        return await list_consents(invocation, as_json=as_json)

    run(setup, work)


@consents.command("forget")
@click.argument("repository", default="")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@configured
def forget_consents(setup: Setup, repository: str, everything: bool) -> None:
    """Take a consent back: REPOSITORY as `list` shows it, or a link to it. The next launch asks again."""
    if bool(repository) == everything:
        raise click.UsageError("Name one repository, or use --all.")

    async def work(invocation: Invocation) -> int:
        from ..consent import forget_consents

        return await forget_consents(invocation, repository, everything=everything)

    run(setup, work)


@click.group("sessions")
def sessions() -> None:
    """See what runs on this computer, and get at the files that ended sessions have left.

    SESSION is the id that `list` shows, or its first letters.
    """


@sessions.command("list")
@json_output
@configured
def list_sessions(setup: Setup, as_json: bool) -> None:
    """List the sessions that run, and those that left changed files."""

    async def work(invocation: Invocation) -> int:
        from ..sessions import list_sessions

        return await list_sessions(invocation, as_json=as_json)

    run(setup, work)


@sessions.command("open")
@click.argument("session")
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
@configured
def open_session(setup: Setup, session: str, no_browser: bool) -> None:
    """Start a notebook again on a copy of the files that SESSION has left."""

    async def work(invocation: Invocation) -> int:
        from ..sessions import open_session

        return await open_session(invocation, session, browser=not no_browser)

    run(setup, work)


@sessions.command("keep")
@click.argument("session")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@configured
def keep_session(setup: Setup, session: str, file: Path | None) -> None:
    """Save the files that were changed in SESSION to FILE, by its ending: .patch, .zip or .tar.gz.

    Without FILE: a running session is not stopped for being idle until it has been so for the whole time again.
    """

    async def work(invocation: Invocation) -> int:
        from ..sessions import keep_session

        return await keep_session(invocation, session, file)

    run(setup, work)


@sessions.command("rm")
@click.argument("ids", nargs=-1, required=True, metavar="SESSION...")
@configured
def remove_sessions(setup: Setup, ids: tuple[str, ...]) -> None:
    """Remove the files that SESSIONs have left. They cannot be brought back."""

    async def work(invocation: Invocation) -> int:
        from ..sessions import remove_sessions

        return await remove_sessions(invocation, ids)

    run(setup, work)
