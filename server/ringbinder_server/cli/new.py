"""`ringbinder plugins new`."""

from __future__ import annotations

from pathlib import Path

import click

from ..scaffold import Project
from ..terminal import echo


def write_project(kind: str, name: str, folder: Path | None) -> None:
    """Writes it and says how to go on. Raises click.ClickException."""
    project = Project(kind, name)
    if problem := project.problem():
        raise click.BadParameter(problem, param_hint="NAME")
    folder = folder or Path(project.distribution)
    try:
        project.write(folder)
    except FileExistsError:
        raise click.ClickException(f"{folder} is there already; give another folder with --into") from None
    except OSError as error:
        raise click.ClickException(f"{folder} cannot be written: {error.strerror}") from None
    echo(f"{folder}: the {kind} {name}, with tests. Go on with")
    echo(f"    cd {folder}", "    pip install --editable . --group dev", "    pytest")
