"""The address of a notebook, and opening it where there is a browser."""

from __future__ import annotations

import getpass
import html
import os
import secrets
import shlex
import sys
import threading
import webbrowser
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from attrs import define, field
from ringbinder.model import Server
from ringbinder.runtime.private import make_private

_SAFE: Final = "/%:@!$&'()*+,;=~"
_PAGE: Final = """\
<!doctype html><meta charset="utf-8"><title>Opening the notebook</title>
<meta http-equiv="refresh" content="0; url={url}"><a href="{url}">Open the notebook</a>
"""


def address(server: Server, urlpath: str) -> str:
    """Where `server` shows `urlpath`, else JupyterLab, with the token that opens it."""
    path, query, fragment = urlsplit(urlpath or "lab")[2:]
    token = f"token={quote(server.token.reveal(), safe='')}"
    base = urlsplit(server.url)
    return urlunsplit(
        (
            base.scheme,
            base.netloc,
            base.path.rstrip("/") + "/" + quote(path.lstrip("/"), safe=_SAFE),
            "&".join(filter(None, (quote(query, safe=_SAFE + "?"), token))),
            quote(fragment, safe=_SAFE + "?"),
        )
    )


def has_desktop() -> bool:
    """Whether a browser that is opened here would be seen by the person who called."""
    if os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"):
        return False
    if os.environ.get("BROWSER") or sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def tunnel_to(url: str) -> str:
    """The command that makes `url` reachable on the computer from which somebody came here over ssh; else empty."""
    # "client address, client port, server address, server port"
    ends = os.environ.get("SSH_CONNECTION", "").split()
    port = urlsplit(url).port
    if len(ends) != 4 or port is None:
        return ""
    own_port = [] if ends[3] == "22" else ["-p", ends[3]]
    return shlex.join(["ssh", "-N", "-L", f"{port}:127.0.0.1:{port}", *own_port, f"{getpass.getuser()}@{ends[2]}"])


@define
class Browser:
    """Opens addresses through a private file in `folder`, which goes when this is left.

    The browser's command line, which every user of the machine may read, then shows no token.
    """

    folder: Path
    _files: list[Path] = field(factory=list, init=False)

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            file.unlink(missing_ok=True)

    def open(self, url: str) -> None:
        """Opens `url` if there is a desktop; never waits for the browser."""
        if not has_desktop():
            return
        make_private(self.folder)
        file = self.folder / f"open-{secrets.token_hex(8)}.html"
        self._files.append(file)
        file.touch(0o600, exist_ok=False)
        file.write_text(_PAGE.format(url=html.escape(url)), encoding="utf-8")
        # A browser in the terminal keeps its caller waiting until it is left.
        threading.Thread(target=webbrowser.open, args=(file.as_uri(),), daemon=True).start()
