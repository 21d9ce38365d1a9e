"""What code of a repository may see of this machine: bubblewrap."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from attrs import define, field
from ringbinder import Paths, UserError, process
from ringbinder.folder_image import FolderImage

Mode = Literal["off", "auto", "required"]
SANDBOXED: Final = "sandboxed"
"""Key of a marker: no code of the repository ran outside of a sandbox while the image was built."""

_TRIAL_SECONDS: Final = 20.0
# Everything is read-only in there; these are also empty, but for what the notebook needs.
_HIDDEN: Final = ("/home", "/root", "/tmp", "/var/tmp", "/run", "/mnt", "/media")  # noqa: S108
_CERTIFICATES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
# The kernel asks for no capability, but for root as their owner: bubblewrap leaves them as they are.
_KERNEL: Final = (
    "/proc/sys", "/proc/sysrq-trigger", "/proc/acpi", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/scsi",
)  # fmt: skip
_BASE: Final = (
    "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--cap-drop", "ALL",
    "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc",
    *(word for path in _KERNEL for word in ("--ro-bind-try", path, path)),
)  # fmt: skip


@define(eq=False)
class Sandbox:
    """Puts commands into bubblewrap where `mode` asks for it and this machine can."""

    mode: Mode
    paths: Paths
    option: str
    """The one that gives `mode`."""
    network: bool = True
    """What is in it reaches the network."""
    _lack: str | None = field(default=None, init=False)
    """Why there is none; empty: there is one; None: not tried yet."""

    async def lack(self) -> str:
        """Why code runs without it; empty if it does not.

        Raises `UserError` (``no-sandbox``) if it is required and cannot be had.
        """
        if self._lack is None:
            self._lack = await _trial(self._base) if self.mode != "off" else f"it is off ({self.option})"
        if self._lack and self.mode == "required":
            raise UserError(
                "no-sandbox", f"Code of repositories may only run in a sandbox here ({self.option}), and {self._lack}."
            )
        return self._lack

    @property
    def _base(self) -> list[str]:
        return ["bwrap", *_BASE, *([] if self.network else ["--unshare-net"])]

    def wrapper(self, writable: Path, readable: Iterable[Path], cwd: Path, env: Mapping[str, str]) -> list[str]:
        """What comes before a command, once `lack` is empty. `env` is the command's."""
        argv = self._base
        hidden = {os.path.realpath(path) for path in (*_HIDDEN, Path.home(), self.paths.state, self.paths.cache)}
        for folder in sorted(filter(os.path.isdir, hidden)):
            argv += ["--tmpfs", folder]
        seen = [*readable]
        seen += [Path(env[name]) for name in _CERTIFICATES if name in env]
        for path in (Path("/run/systemd/resolve"), *seen):
            # A Python in /bin or in the home folder is installed in a folder that holds what must be hidden.
            if not any(Path(folder).is_relative_to(os.path.realpath(path)) for folder in hidden):
                argv += ["--ro-bind-try", str(path), str(path)]
        for file in map(os.path.realpath, self.paths.configuration):
            if Path(file).is_file() and not any(Path(file).is_relative_to(folder) for folder in hidden):
                argv += ["--ro-bind", os.devnull, file]
        argv += ["--bind", str(writable), str(writable), "--chdir", str(cwd)]
        if not Path(env.get("TMPDIR", "/")).is_relative_to(writable):
            argv += ["--setenv", "TMPDIR", "/tmp"]  # noqa: S108
        return [*argv, "--"]


def was_sandboxed(image: Mapping[str, Any]) -> bool:
    """Whether the image whose marker holds `image` was made in a sandbox; older markers have no such fact."""
    return image.get(SANDBOXED) is True


async def _trial(base: Sequence[str]) -> str:
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed"
    done = await process.run([*base, "--", "true"], timeout=_TRIAL_SECONDS)
    return f"bubblewrap does not work here: {done.errors.strip()}" if done.returncode else ""


def interpreters(entry: FolderImage) -> Iterator[Path]:
    """The installations behind the environment's python: by the name that it was made with, and the real one."""
    return (program.parent.parent for program in entry.interpreter())
