"""The description of the API for programs (OpenAPI 3.1); a test holds it against the routes."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Final

Json = dict[str, Any]

_STRING: Final[Json] = {"type": "string"}


def _object(properties: Json, *, closed: bool = True) -> Json:
    shape: Json = {"type": "object", "properties": properties, "required": list(properties)}
    return {**shape, "additionalProperties": False} if closed else shape


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(description: str, schema: Json, **more: Any) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}, **more}


def _error(description: str) -> Json:
    return _json(description, _ref("Error"))


def _parameter(name: str, place: str, description: str, schema: Json | None = None) -> Json:
    fields = {"name": name, "in": place, "description": description, "schema": schema or {"type": "string"}}
    return {**fields, "required": True} if place == "path" else fields


def _events(description: str) -> Json:
    data = {**_STRING, "contentMediaType": "application/json", "contentSchema": _ref("Event")}
    event = _object({"id": _STRING, "data": data}, closed=False)
    return {"description": description, "content": {"text/event-stream": {"schema": event}}}


_NUMBER: Final[Json] = {"type": "number"}
_SEGMENT: Final[Json] = {"type": "string", "minLength": 1}
_LAST_EVENT = _parameter("Last-Event-ID", "header", "Go on after this event.")
_LINK = [
    _parameter("provider", "path", "Prefix of the provider, such as gh.", _SEGMENT),
    _parameter("spec", "path", "As in a link: percent-encoded where it stands so there; may have slashes.", _SEGMENT),
]
_LAUNCH_ID = _parameter("id", "path", "Id of the launch; a secret.", _SEGMENT)
_NO_LAUNCH = _error("There is no such launch, or it was too long ago")
_FORBIDDEN = _error("The client may not start anything here")

_SCHEMAS: Final[Json] = {
    "Error": _object({"code": _STRING, "message": _STRING}),
    "Wish": {
        "oneOf": [
            {
                "type": "object",
                "properties": {"link": _SEGMENT, "build_only": {"type": "boolean"}},
                "required": ["link"],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {"provider": _SEGMENT, "spec": _SEGMENT, "build_only": {"type": "boolean"}},
                "required": ["provider", "spec"],
                "additionalProperties": False,
            },
        ]
    },
    "Phase": {
        "enum": [
            "waiting", "fetching", "building", "pushing", "built", "launching", "ready", "failed", "unknown",
        ]
    },
    "Event": {
        "type": "object",
        "properties": {"phase": _ref("Phase"), "message": _STRING},
        "required": ["phase", "message"],
    },
    "Launch": _object(
        {
            "id": _STRING,
            "provider": _STRING,
            "spec": _STRING,
            "build_only": {"type": "boolean"},
            "state": _ref("Phase"),
            "message": _STRING,
            "ended": {"type": "boolean"},
            "result": _or_null(_ref("Event")),
            "url": _STRING,
            "events_url": _STRING,
            "log_url": _or_null(_STRING),
        }
    ),
    "ImageState": _object(
        {
            "provider": _STRING,
            "spec": _STRING,
            "resolved_spec": _STRING,
            "ref": _STRING,
            "repo_url": _STRING,
            "image": _STRING,
            "state": {"enum": ["ready", "building", "broken", "cold"]},
            "built": {"type": "boolean"},
            "built_at": _or_null(_NUMBER),
            "last_build_seconds": _or_null(_NUMBER),
            "usual_launch_seconds": _or_null(_NUMBER),
            "queue": _or_null(_object({"position": {"type": "integer", "minimum": 1}})),
        }
    ),
    "Link": _object(
        dict.fromkeys(("provider", "spec", "urlpath", "path", "address"), _STRING), closed=False
    ),
    "Health": _object(
        {
            "ok": {"type": "boolean"},
            "checks": {
                "type": "array",
                "items": _object({"service": _STRING, "ok": {"type": "boolean"}}, closed=False),
            },
        }
    ),
}  # fmt: skip

_PATHS: Final[Json] = {
    "/api/v1/launches": {
        "post": {
            "operationId": "launch",
            "summary": "Start a launch",
            "parameters": [
                _parameter(
                    "Idempotency-Key", "header",
                    "The same key of the same client means the same launch. A secret, such as a random UUID; users who "
                    "have logged in may have shorter ones.",
                    {"type": "string", "maxLength": 255},
                )
            ],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": _ref("Wish")}},
            },
            "responses": {
                "200": _json("The launch that this key stands for", _ref("Launch")),
                "201": _json(
                    "A new launch", _ref("Launch"),
                    headers={"Location": {"description": "Its address", "schema": _STRING}},
                ),
                "400": _error("The body is malformed, or its link means nothing"),
                "403": _FORBIDDEN,
                "404": _error("There is no such provider"),
                "413": _error("The body is too large"),
                "415": _error("The body is not application/json"),
                "422": _error("The key stands for another launch"),
                "429": _error("This client has too many launches, under way or of the last minutes"),
                "503": _error("The server has"),
            },
        }
    },
    "/api/v1/launches/{id}": {
        "parameters": [_LAUNCH_ID],
        "get": {
            "operationId": "launchState",
            "summary": "How far a launch is",
            "responses": {"200": _json("Its state", _ref("Launch")), "404": _NO_LAUNCH},
        },
        "delete": {
            "operationId": "endLaunch",
            "summary": "Cancel a launch, or stop what it has started",
            "responses": {
                "202": _json("It is being cancelled", _ref("Launch")),
                "204": {"description": "It has ended, and its server with it"},
                "403": _FORBIDDEN,
                "404": _NO_LAUNCH,
            },
        },
    },
    "/api/v1/launches/{id}/events": {
        "get": {
            "operationId": "launchEvents",
            "summary": "Its events, from the first one or after one",
            "parameters": [_LAUNCH_ID, _LAST_EVENT],
            "responses": {
                "200": _events("One JSON object a `data:` line, as `/build` sends them"),
                "204": {"description": "The last event was delivered already"},
                "404": _NO_LAUNCH,
                "406": _error("The client does not take text/event-stream"),
            },
        }
    },
    "/api/v1/images/{provider}/{spec}": {
        "get": {
            "operationId": "imageState",
            "summary": "Whether the image of a link is there; starts nothing",
            "parameters": _LINK,
            "responses": {
                "200": _json("Its state", _ref("ImageState")),
                "400": _error("The spec is malformed"),
                "403": _FORBIDDEN,
                "404": _error("There is no such provider, repository or ref"),
                "429": _error("Too many requests"),
                "503": _error("Provider or registry does not answer now"),
            },
        }
    },
    "/api/v1/builds/{id}/log": {
        "get": {
            "operationId": "buildLog",
            "summary": "The log of a build, under way or kept",
            "parameters": [
                _parameter("id", "path", "Id of the build; a secret.", _SEGMENT),
                _parameter("format", "query", "Default: by the header Accept.", {"enum": ["text", "jsonl"]}),
                _parameter("follow", "query", "Until the build ends.", {"type": "boolean"}),
            ],
            "responses": {
                "200": {
                    "description": "The log",
                    "content": {
                        "text/plain": {"schema": _STRING},
                        "application/jsonl": {"schema": _STRING},
                    },
                },
                "400": _error("There is no such format"),
                "404": _error("There is no such build, or its log is no longer kept"),
            },
        }
    },
    "/api/v1/link": {
        "get": {
            "operationId": "link",
            "summary": "What a pasted address means",
            "parameters": [_parameter("text", "query", "The address.")],
            "responses": {
                "200": _json("What it means", _ref("Link")),
                "400": _error("It means nothing here"),
            },
        }
    },
    "/health": {
        "get": {
            "operationId": "health",
            "summary": "Whether everything works; looked at again every 15 seconds",
            "responses": {
                "200": _json("It does", _ref("Health")),
                "503": _json("It does not", _ref("Health")),
            },
        }
    },
    "/versions": {
        "get": {
            "operationId": "versions",
            "summary": "Versions, the same as long as the server runs",
            "responses": {"200": _json("Versions", {"type": "object"})},
        }
    },
    "/api/repoproviders": {
        "get": {
            "operationId": "repoProviders",
            "summary": "What can be launched from",
            "responses": {"200": _json("One object a provider", {"type": "array", "items": {"type": "object"}})},
        }
    },
}  # fmt: skip

DOCUMENT: Final[Json] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Ringbinder",
        "version": version("ringbinder"),
        "description": "Launches, images and logs. `/build`, BinderHub's event stream, stands beside it.",
    },
    "paths": _PATHS,
    "components": {"schemas": _SCHEMAS},
}
"""Served with the `servers` of the running site."""
