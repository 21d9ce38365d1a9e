"""The kinds of error. Each says to whom it speaks; any other exception is a bug of ours or a plugin's."""

from __future__ import annotations

from collections.abc import Sequence


class RingbinderError(Exception):
    """Base of every error that carries a message for a reader."""


class UserError(RingbinderError):
    """What the person who clicked can understand or fix: shown to them whole.

    `code` is a short stable word (``ref-not-found``, ``spec-invalid``, ``unsupported-file``, ...) for programs;
    `message` says what happened and what to do. Raised by providers, builders and launchers.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class BuildError(UserError):
    """The repository's own build failed (a broken pin, a failing postBuild): the log holds the reason."""

    def __init__(self, message: str, code: str = "build-failed") -> None:
        super().__init__(code, message)


class TransientError(RingbinderError):
    """Something outside did not answer this time: trying again may work. `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Refused(RingbinderError):
    """A policy said no (ban, quota, limit). `status` is the HTTP-like code of the `failed` event."""

    def __init__(self, reason: str, retry_after: float | None = None, status: int = 403) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        self.status = status
        self.policy = ""
        """Name of the plugin that said it; filled in by core."""


class EventsRejected(RingbinderError):
    """What a sink's `emit` raises if its receiver will never take these events: they are not sent again.

    Of several, each is then sent alone, so that one bad event takes no other with it.
    """


class MissingBlob(RingbinderError):
    """A registry does not have a blob, or no longer. `digest` is empty if the registry does not say which."""

    def __init__(self, message: str, digest: str = "") -> None:
        super().__init__(message)
        self.digest = digest


class DigestMismatch(RingbinderError):
    """Content is not what its digest or its size says: a builder's, a registry's, or damaged on its way."""


class StoreError(RingbinderError):
    """A `KeyValueStore` cannot be read or written. Names its file, and why."""


class PluginError(RingbinderError):
    """A plugin broke the contract or could not be loaded, configured or started. Names plugin and hook."""

    def __init__(self, plugin: str, message: str, hook: str | None = None) -> None:
        where = f"plugin {plugin!r}" + (f", hook {hook!r}" if hook else "")
        super().__init__(f"{where}: {message}")
        self.plugin = plugin
        self.hook = hook


class ConfigError(RingbinderError):
    """The configuration is wrong. Holds every problem found, never a secret's value."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems: tuple[str, ...] = tuple(problems)


class CredentialsError(ConfigError):
    """Another service refuses the operator's credentials, or their rights are too few.

    `option` is where they are set (``DockerRegistry.password``). The person reads that it is not their fault (code
    ``operator-credentials``), and the log has option and message.
    """

    def __init__(self, option: str, message: str) -> None:
        super().__init__([f"{option}: {message}"])
        self.option: str = option
