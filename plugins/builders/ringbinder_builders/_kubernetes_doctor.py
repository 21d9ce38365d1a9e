"""What `ringbinder doctor` finds out about the cluster that builds."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Final

from ringbinder import Finding, PluginError, TransientError
from ringbinder_cluster.access import POD_WATCH, Right, findings
from ringbinder_cluster.client import ApiError, Cluster, Patience

from ._kubernetes_options import KubernetesBuildOptions

RIGHTS: Final[Sequence[Right]] = (
    *POD_WATCH,
    Right("get", "pods"),
    Right("create", "pods"),
    Right("delete", "pods"),
    Right("get", "pods/log"),
    Right("list", "events"),
    Right("create", "secrets"),
)
"""Every verb that the builder uses: what the Role of its service account must allow."""

PATIENCE: Final = Patience(request=10.0, in_all=15.0)
_LOGIN: Final = "set the Helm values registry.url, registry.username and registry.password"


async def examine(plugin: str, options: KubernetesBuildOptions) -> Sequence[Finding]:
    """Is the API server there, may we do what we do, is the push secret there and valid."""
    try:
        async with Cluster.connected(plugin, PATIENCE) as cluster:
            namespace = options.namespace or cluster.namespace
            found = await findings(cluster, namespace, RIGHTS)
            if options.push_secret and options.use_registry:
                found.append(await _push_secret(cluster, namespace, options.push_secret))
            return found
    except PluginError as error:
        fix = "run in a pod with a service account, or set KUBECONFIG; pip install 'ringbinder[kubernetes]'"
        return [Finding("error", str(error), fix)]
    except TransientError as error:
        return [Finding("error", str(error), "check KUBECONFIG, and the network to the API server")]


async def _push_secret(cluster: Cluster, namespace: str, name: str) -> Finding:
    what = f"push secret {name} in namespace {namespace}"
    try:
        secret = await cluster.ask("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")
    except ApiError as error:
        if error.status == 404:
            message = f"{what} is not there: build pods that need it never start"
            return Finding("error", message, f"{_LOGIN}, or KubernetesBuildExecutor.push_secret to its name or nothing")
        fix = f"allow `get` of this one Secret, or look yourself: kubectl -n {namespace} get secret {name}"
        return Finding("warning", f"{what} cannot be looked at: {error.message}", fix)
    try:
        hosts = _hosts(secret["data"]["config.json"])
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        message = f"{what} holds no docker configuration under config.json: {error or type(error).__name__}"
        return Finding("error", message, _LOGIN)
    if not hosts:
        return Finding("error", f"{what} has no credentials in it", _LOGIN)
    return Finding("ok", f"{what} has credentials for {', '.join(hosts)}")


def _hosts(encoded: str) -> list[str]:
    """The registries for which docker's configuration has a user name and a password, or a token."""
    config = json.loads(base64.b64decode(encoded, validate=True))
    found = []
    for host, entry in (config.get("auths") or {}).items():
        if auth := entry.get("auth"):
            user, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
            if not (user and colon and password):
                raise ValueError(f"`auth` of {host} is not base64 of user:password")
        if auth or entry.get("identitytoken") or entry.get("password"):
            found.append(host)
    return found + list(config.get("credHelpers") or ()) + ([config["credsStore"]] if "credsStore" in config else [])
