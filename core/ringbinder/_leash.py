"""The parent that `process` puts over every command: ``_leash.py CONTROL STATUS NICE LOCALE COMMAND``.

CONTROL is the reading end of a pipe held by Ringbinder: a line in it is a number of seconds within which
everything has to end; its end of file (Ringbinder is gone, however it went) means the same with a grace of
our own. STATUS tells Ringbinder ``S pid``, ``E errno`` (not started) and ``X code``. It imports little, since
it is started for every command.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from types import FrameType

_ORPHANED_GRACE = 5.0
_LEFTOVER_GRACE = 2.0
_KILL_PATIENCE = 10.0
_LOOK_AGAIN = 0.05
_AUTOGROUP_ATTEMPTS = 20
_AUTOGROUP_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    import ctypes

    return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)


def _descendants() -> list[int]:
    """Every process below this one. Orphans are below it too, since it is a subreaper."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib would double the start-up
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    level = [os.getpid()]
    while level:
        level = [child for parent in level for child in children.get(parent, ())]
        found += level
    return found


class Leash:
    """Waits for the command and for the word to end it; returns when the whole tree is gone."""

    def __init__(self, command: int, control: int, wakeup: int, subreaper: bool) -> None:
        self.command = command
        self.control = control
        self.wakeup = wakeup
        self.subreaper = subreaper
        self.code: int | None = None
        self.deadline: float | None = None
        self.asked: set[int] = set()
        self.poller = select.poll()
        self.poller.register(control, select.POLLIN)
        self.poller.register(wakeup, select.POLLIN)

    def end_within(self, grace: float) -> None:
        deadline = time.monotonic() + grace
        self.deadline = deadline if self.deadline is None else min(self.deadline, deadline)

    def watch(self) -> int:
        while self._some_left():
            if self.deadline is not None:
                overdue = time.monotonic() - self.deadline
                if overdue > _KILL_PATIENCE:
                    break
                self._end_tree(kill=overdue >= 0)
            for fd, _ in self.poller.poll(None if self.deadline is None else _LOOK_AGAIN * 1000):
                self._receive(fd)
        return -signal.SIGKILL if self.code is None else self.code

    def _some_left(self) -> bool:
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                self.asked.discard(pid)
                if pid == self.command:
                    self.code = os.waitstatus_to_exitcode(status)
                    self.end_within(_LEFTOVER_GRACE)
        except ChildProcessError:
            return not self.subreaper and self._signal(-self.command, 0)

    def _end_tree(self, kill: bool) -> None:
        for target in _descendants() if self.subreaper else [-self.command]:
            if kill:
                self._signal(target, signal.SIGKILL)
            elif target not in self.asked:
                self.asked.add(target)
                self._signal(target, signal.SIGTERM)
                self._signal(target, signal.SIGCONT)  # a stopped process would not receive it

    @staticmethod
    def _signal(target: int, number: int) -> bool:
        try:
            if target < 0:
                os.killpg(-target, number)
            else:
                os.kill(target, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _receive(self, fd: int) -> None:
        data = os.read(fd, 4096)
        if fd == self.wakeup:
            if signal.SIGTERM in data:
                self.end_within(_ORPHANED_GRACE)
        elif data:
            self.end_within(float(data.split()[-1]))
        else:
            self.poller.unregister(fd)
            self.end_within(_ORPHANED_GRACE)


def _on_signal(number: int, frame: FrameType | None) -> None:
    """Nothing: the wake-up pipe tells. A handler, unlike SIG_IGN, is not inherited by the command."""


def _give_way_as_session(nice: int) -> None:
    """Where the kernel shares the processor between sessions, a process gives way only within its own."""
    for _ in range(_AUTOGROUP_ATTEMPTS):
        try:
            with open("/proc/self/autogroup", "w") as file:  # noqa: PTH123 - as above
                file.write(str(nice))
        except BlockingIOError:
            time.sleep(_AUTOGROUP_SECONDS)  # all users but root may write once in 0.1 s, together
        except OSError:
            return  # this kernel does not share so
        else:
            return


def _start(command: list[str], nice: int, subreaper: bool) -> tuple[int, int]:
    """Process id of the command, and 0 or the errno for which it could not be started."""
    failure_read, failure_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            if subreaper:
                _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
                signal.signal(number, signal.SIG_DFL)
            if nice:
                os.nice(nice)
                _give_way_as_session(nice)
            os.execvp(command[0], command)  # noqa: S606
        except OSError as error:
            os.write(failure_write, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(failure_write)
    failure = os.read(failure_read, 16)
    os.close(failure_read)
    if failure:
        os.waitpid(pid, 0)
    return pid, int(failure or 0)


def main() -> None:
    control, status, nice = (int(argument) for argument in sys.argv[1:4])
    if sys.argv[4] == "drop":
        os.environ.pop("LC_CTYPE", None)  # where there is no locale, Python's start-up sets it
    os.set_inheritable(control, False)
    os.set_inheritable(status, False)
    wakeup, wakeup_write = os.pipe()
    os.set_blocking(wakeup_write, False)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, _on_signal)
    subreaper = _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    pid, failure = _start(sys.argv[5:], nice, subreaper)
    os.write(status, b"E %d\n" % failure if failure else b"S %d\n" % pid)
    if failure:
        return
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)  # a command that closes its input must be seen to have closed it
    code = Leash(pid, control, wakeup, subreaper).watch()
    try:  # noqa: SIM105
        os.write(status, b"X %d\n" % code)
    except BrokenPipeError:
        pass  # the caller has gone


if __name__ == "__main__":
    main()
