# mypy: ignore-errors
"""The hub's side of Ringbinder, for a JupyterHub's `jupyterhub_config.py`.

This file needs nothing but what a hub has (jupyterhub, traitlets, tornado): import it, or paste it into the hub's
configuration. Put the mixin before the spawner of your choice, and name the authenticator if people do not log in:

    from kubespawner import KubeSpawner        # or DockerSpawner, SimpleLocalProcessSpawner, ...

    class BinderSpawner(BinderSpawnerMixin, KubeSpawner):
        pass

    c.JupyterHub.spawner_class = BinderSpawner
    c.JupyterHub.authenticator_class = BinderAuthenticator

Ringbinder sends as a server's `user_options`: `image`, `token`, `repo_url` and `binder_*`. The names of options,
arguments and variables are those of BinderHub's mixin.
"""

import asyncio
import re
import time
from urllib.parse import quote, unquote, urlsplit

from jupyterhub.auth import NullAuthenticator
from jupyterhub.handlers import BaseHandler
from tornado import web
from tornado.escape import xhtml_escape
from traitlets import Bool, Unicode, default
from traitlets.config import Configurable

_JUPYTER = """
import os, sys
sys.path[:] = filter(None, sys.path)
try:
    from importlib.metadata import version
    lab = int(version("jupyterlab").split(".")[0])
except Exception:
    try:
        from jupyterlab import __version__
        lab = int(__version__.split(".")[0])
    except Exception:
        lab = 0
found = "jupyter-lab" if lab >= 3 else "jupyter-notebook"
os.execvp(found, [found] + sys.argv[1:])
"""
"""Starts the newest Jupyter that an image has; images are of any age.

Its imports never come from the current folder, which may have a random.py.

JupyterLab is imported only before Python 3.8, which cannot read its version: that takes as long as the start itself.
"""

_VARIABLES = {
    "binder_launch_host": "BINDER_LAUNCH_HOST",
    "binder_request": "BINDER_REQUEST",
    "binder_persistent_request": "BINDER_PERSISTENT_REQUEST",
    "binder_ref_url": "BINDER_REF_URL",
    "binder_client_ip": "BINDER_CLIENT_IP",
    "repo_url": "BINDER_REPO_URL",
}

_WATCHED = 20.0
"""Seconds for which a new server is watched: if it ends then, that is reported at once, with its last words."""
_LISTENS = 0.2
"""Seconds from one look at whether it listens to the next."""
_RUNS = 1.0
"""Seconds from one look at whether it runs to the next."""
_LAST_LINES = 20
_LAST_CHARACTERS = 2000
_UNREACHABLE = "The container engine, or the cluster, that starts servers does not answer the hub; try again later"
_BROKEN = 422
"""The image is at fault, not the hub: of 4xx no hub ends itself after a few (`consecutive_failure_limit`)."""
_EXIT_CODE = re.compile(r"ExitCode=(-?\d+)|\Z")

_ENDED_LINKS = {}
"""By user: the link by which a server was launched that has ended, the newest `_KEPT_LINKS` of them."""
_KEPT_LINKS = 10_000
_SERVER_PATH = re.compile(r"user/([^/?]+)(/[^?]*)?")
_NOT_PRINTED = re.compile(
    r"[^\n\t -~\u00a0-\u061b\u061d-\u200d\u2010-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\U0010ffff]"
)
"""Also what turns the order of a line, or ends it."""
_LAST_WORDS = {"terminationMessagePolicy": "FallbackToLogsOnError"}
"""On Kubernetes: the end of the log becomes part of a container's status, where KubeSpawner sees it."""
_NEVER = ("InvalidImageName", "ErrImageNeverPull")
_STUCK = ("ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_STUCK_SECONDS = 30.0
"""For which one of these may last: what a registry or the kubelet tries again may go well."""


class BinderSpawnerMixin(Configurable):
    """Starts what Ringbinder asks for: its image, opened by its token, or with `auth_enabled` by the hub's login."""

    auth_enabled = Bool(
        False,
        help="""
        People log in at the hub, and their servers run `jupyterhub-singleuser`.

        Else everybody gets a temporary user, and a token opens the server.
        """,
    ).tag(config=True)

    cors_allow_origin = Unicode(
        "",
        help="""
        Origin whose pages may use the servers, such as pages with thebe: sets the header
        `Access-Control-Allow-Origin`. `*` allows all.
        """,
    ).tag(config=True)

    token_in_arguments = Bool(
        False,
        help="""
        Give the token as an argument too, for images whose Jupyter is older than notebook 5.4 and does not know
        the variable JUPYTER_TOKEN. Arguments can be seen by every process of the container.
        """,
    ).tag(config=True)

    @default("cmd")
    def _default_cmd(self):
        return ["jupyterhub-singleuser"] if self.auth_enabled else ["python3", "-c", _JUPYTER]

    def get_args(self):
        """The arguments of the server, each under the name of classic notebooks and that of Jupyter Server."""
        arguments = list(super().get_args())
        if self.auth_enabled:
            return arguments
        given = {
            "ip": self.ip or "0.0.0.0",  # noqa: S104
            "port": self._listen_port(),
            "base_url": self.server.base_url,
            "trust_xheaders": True,
            # Behind the hub's proxy, the server is addressed by the hub's name.
            "allow_remote_access": True,
        }
        if self.token_in_arguments:
            given["token"] = self.user_options["token"]
        if self.default_url:
            given["default_url"] = self.format_string(self.default_url)
        if self.cors_allow_origin:
            given["allow_origin"] = self.cors_allow_origin
            # For this Jupyter has no other way: a pattern, too, for origins that are all allowed.
            if self.cors_allow_origin == "*":
                given["allow_origin_pat"] = ".*"
        for section in ("NotebookApp", "ServerApp"):
            arguments += [f"--{section}.{name}={value}" for name, value in given.items()]
        return arguments

    def _listen_port(self):
        # A container has a port of its own, with any name that the hub's machine has for it (DockerSpawner's
        # `container_port` is its `port`); a local process gets a free one before this is asked.
        return self.port or self.server.port

    def get_env(self):
        """The variables of the server, with BINDER_* for what runs in it."""
        env = super().get_env()
        if not self.auth_enabled:
            env["JUPYTER_TOKEN"] = self.user_options.get("token", "")
        for option, variable in _VARIABLES.items():
            env[variable] = str(self.user_options.get(option) or "")
        return env

    async def start(self, *args, **kwargs):
        """Starts the image that was asked for, and sees whether it ends before it listens.

        Without `auth_enabled`, 400 if no image was asked for: somebody has pressed "Start" at the hub. 422, with
        what a container has written, for an image that cannot be started or ends at once.
        """
        image = self.user_options.get("image")
        if not self.auth_enabled and not (image and self.user_options.get("token")):
            raise web.HTTPError(400, "an image and a token are needed: this server is for a Binder to start")
        if image and self.has_trait("image"):
            self.image = image
        more = getattr(self, "extra_container_config", None)
        if isinstance(more, dict) and "termination_message_policy" not in more:
            self.extra_container_config = {**_LAST_WORDS, **more}
        began = time.monotonic()
        try:
            address = await self._start_or_end(super().start(*args, **kwargs))
        except Exception as error:
            if explained := getattr(error, "explanation", None):  # docker's errors have one
                code = _BROKEN if error.is_client_error() else 500
                message = f"The container engine could not start it: {self._tidy(explained)}"
            elif isinstance(error, OSError) and type(error).__module__ != "builtins":  # an HTTP client's
                code, message = 500, _UNREACHABLE
            else:
                raise
            raise web.HTTPError(code, message) from error
        await self._watch(address, min(began + self.start_timeout - 1, time.monotonic() + _WATCHED))
        return address

    def clear_state(self):
        """Called when a server has ended, however that came: its page then leads back to its launch."""
        super().clear_state()
        _ENDED_LINKS.pop(self.user.name, None)
        _ENDED_LINKS[self.user.name] = _launch_link(self.user_options)
        while len(_ENDED_LINKS) > _KEPT_LINKS:
            del _ENDED_LINKS[next(iter(_ENDED_LINKS))]

    async def _start_or_end(self, start):
        """The address of `start`; 422 if a pod ends, or cannot be started, while KubeSpawner waits for it to run."""
        starting = asyncio.ensure_future(start)
        stuck_since = None
        try:
            while not starting.done():
                await asyncio.wait({starting}, timeout=_RUNS)
                why, final = self._pod_trouble()
                stuck_since = (stuck_since or time.monotonic()) if why else None
                if why and not starting.done() and (final or time.monotonic() - stuck_since > _STUCK_SECONDS):
                    starting.cancel()
                    await asyncio.wait({starting})
                    await self._broken(why)
        finally:
            starting.cancel()
        return starting.result()

    async def _watch(self, address, until):
        place, runs_at = address, time.monotonic()
        if isinstance(address, str):
            place = urlsplit(address).hostname, urlsplit(address).port
        while place and time.monotonic() < until:
            if await _listens(*place):
                return
            if time.monotonic() >= runs_at:
                runs_at = time.monotonic() + _RUNS
                # First, since KubeSpawner's `poll` deletes a pod that has ended.
                why, final = self._pod_trouble()
                if final:
                    await self._broken(why)
                if (status := await super().poll()) is not None:
                    code = _EXIT_CODE.search(str(status))[1] or status
                    reason = await self._last_words()
                    message = f"The server ended with exit code {code} before it answered"
                    await self._broken(f"{message}\n{reason}" if reason else message)
            await asyncio.sleep(_LISTENS)

    async def _broken(self, why):
        await self.stop(now=True)
        raise web.HTTPError(_BROKEN, why)

    def _pod_trouble(self, when=" before it answered"):
        """Why KubeSpawner's pod does not run, empty if it may yet, and whether that is final."""
        reflector = getattr(self, "pod_reflector", None)
        pod = reflector and reflector.pods.get(f"{self.namespace}/{self.pod_name}")
        if not pod or pod["metadata"].get("deletionTimestamp"):
            return "", False
        status = pod.get("status") or {}
        if status.get("phase") == "Failed" and status.get("reason"):
            message = f"The cluster has ended the server ({status['reason']}): {status.get('message') or ''}"
            return self._tidy(message), True
        for container in status.get("containerStatuses") or ():
            if container["name"] != "notebook":
                continue
            state = container.get("state") or {}
            ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
            if ended:
                return self._how_ended(ended, when), True
            waiting = state.get("waiting") or {}
            if (reason := waiting.get("reason")) in _NEVER + _STUCK:
                message = f"The cluster cannot start the server ({reason}): {waiting.get('message') or ''}"
                return self._tidy(message), reason in _NEVER
        return "", False

    def _how_ended(self, ended, when):
        code, reason = ended.get("exitCode"), ended.get("reason") or ""
        message = f"The server ended with exit code {code}{when}"
        if reason == "OOMKilled":
            message = f"The server needed more memory than it may have (exit code {code}, OOMKilled)"
        elif reason not in ("Error", "Completed", ""):
            message += f" ({reason})"
        last_words = self._tidy(ended.get("message") or "")
        return f"{message}\n{last_words}" if last_words else message

    async def _last_words(self):
        """The end of the log, where there is one: DockerSpawner's containers have it."""
        if not getattr(self, "container_id", ""):
            return ""
        try:
            reason = await self.docker("logs", self.container_id, tail=_LAST_LINES)
        except Exception:
            self.log.exception("The log of %s cannot be read", self.container_id)
            return ""
        return self._tidy(reason)

    def _tidy(self, text):
        text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
        if token := self.user_options.get("token"):
            text = text.replace(token, "***")
        return _NOT_PRINTED.sub("\ufffd", text[-_LAST_CHARACTERS:]).strip()

    async def create_object(self, *args, **kwargs):
        """DockerSpawner's: with `remove` the engine would take a container away before its log is read."""
        if isinstance(self.extra_host_config, dict):
            self.extra_host_config = {"auto_remove": False, **self.extra_host_config}
        return await super().create_object(*args, **kwargs)

    async def poll(self):
        """As the spawner's, with the last lines of a pod that has ended in the hub's log.

        With DockerSpawner's `remove`, a container that has ended is taken away.
        """
        why, _ = self._pod_trouble("")
        status = await super().poll()
        if status is not None and why:
            # On one line: a notebook's last lines must not look like entries of the hub.
            self.log.warning("%s: %s", self._log_name, " | ".join(why.split("\n")))
        if status is not None and getattr(self, "remove", False) and getattr(self, "object_id", ""):
            try:
                await self.remove_object()
                self.object_id = ""
            except Exception:
                self.log.exception("The container %s has ended and cannot be removed", self.object_id)
        return status


async def _listens(host, port):
    try:
        _, writer = await asyncio.open_connection(host or "127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


class BinderAuthenticator(NullAuthenticator):
    """Has no login. Answers for a notebook that has ended with 424, and a way to launch it again."""

    def get_handlers(self, app):
        """Come before the hub's own, which ask people to log in."""
        return [(r"/user/([^/]+)(/.*)?", _NoNotebook), (r"/error/503", _NoAnswer), (r"/login", _NoLogin)]


class _NoNotebook(BaseHandler):
    """For what the proxy knows no server for."""

    async def get(self, user_name, path):
        user = self.find_user(user_name)
        if user and user.active:
            self.set_header("Retry-After", "3")
            asked = self.base_url + self.request.uri[len(self.hub.base_url) :]  # as the proxy was asked
            self.set_header("Refresh", f"3; url={asked}")
            await self._show(503, "This notebook is not ready", _NOT_READY)
        elif "api" in (path or "").split("/") or "application/json" in self.request.headers.get("Accept", ""):
            self.set_status(424)
            self.finish({"message": "This notebook has ended. Its link can be opened again."})
        else:
            link = _ENDED_LINKS.get(user_name) or (_launch_link(user.spawners[""].user_options) if user else "")
            if link and path and path != "/":
                link += f"?urlpath={quote(path[1:], safe='')}"
            again = f'<a href="{xhtml_escape(link)}">Launch it again</a>' if link else "Open its link again"
            await self._show(424, "This notebook has ended", f"{_ENDED} {again}.")

    async def _show(self, status, title, html):
        self.set_status(status)
        self.finish(
            await self.render_template("error.html", status_code=status, status_message=title, message_html=html)
        )


class _NoAnswer(_NoNotebook):
    """For a server that the proxy gets no answer from: the hub looks now whether it is there."""

    async def get(self):
        place = _SERVER_PATH.match(self.get_argument("url", "").removeprefix(self.base_url))
        user = place and self.find_user(unquote(place[1]))
        spawner = user and user.active and user.spawners[""]
        if spawner and not (spawner.ready and await spawner.poll_and_notify() is not None):
            await self._show(503, "This notebook does not answer", _SILENT)
        else:
            await super().get(*(unquote(part or "") for part in place.groups()) if place else ("", ""))


class _NoLogin(_NoNotebook):
    async def get(self):
        await self._show(403, "There is no login here", _LINKS_ONLY)


_ENDED = (
    "Binder not found at this address. A notebook ends when it is idle for a while, when it fails, or with the hub, "
    "and what was changed in it is gone."
)
_NOT_READY = "It starts, or the hub or its proxy has been restarted. This page looks again in some seconds."
_SILENT = "It is there and does not answer: it may be busy. Look again in some seconds."
_LINKS_ONLY = "Notebooks are launched by links that are opened at the Binder."


def _launch_link(options):
    """Where `options` of a server were launched; empty if that is no web page."""
    link = f"{options.get('binder_launch_host', '')}{options.get('binder_request', '')}"
    return link if link.startswith(("http://", "https://")) else ""
