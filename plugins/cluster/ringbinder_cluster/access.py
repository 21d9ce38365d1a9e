"""What we may do on the cluster: the API server is asked itself."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from ringbinder import Finding

from .client import ApiError, Cluster


@frozen
class Right:
    """A verb that we use on a resource (``pods``, ``pods/log``), perhaps on one object only."""

    verb: str
    resource: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}" + (f" {self.name}" if self.name else "")


POD_WATCH: Sequence[Right] = (Right("list", "pods"), Right("watch", "pods"))


async def findings(cluster: Cluster, namespace: str, rights: Sequence[Right]) -> list[Finding]:
    """One finding if all is allowed, else one for each right that is missing.

    Raises TransientError if the API server does not answer.
    """
    try:
        missing = [right for right in rights if not await _may(cluster, namespace, right)]
    except ApiError as error:
        message = f"the Kubernetes API server does not let us ask what we may do: {error.message}"
        return [Finding("error", message, "the token of our service account may have expired; restart the pod")]
    if not missing:
        message = f"the Kubernetes API server lets us do what is needed in namespace {namespace}"
        return [Finding("ok", f"{message} ({', '.join(map(str, rights))})")]
    fix = "allow it in the Role of Ringbinder's service account (Helm value rbac.enabled), and check the namespace"
    return [Finding("error", f"we may not {right} in namespace {namespace}", fix) for right in missing]


async def _may(cluster: Cluster, namespace: str, right: Right) -> bool:
    resource, _, part = right.resource.partition("/")
    attributes = {"namespace": namespace, "verb": right.verb, "resource": resource, "group": ""}
    attributes |= {"subresource": part} if part else {}
    attributes |= {"name": right.name} if right.name else {}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer = await cluster.ask("POST", path, body=review, shape={"status": {"allowed?": bool}})
    return bool(answer["status"].get("allowed"))
