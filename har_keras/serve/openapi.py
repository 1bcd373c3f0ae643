"""The description of the API, and the page that shows it to people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from har_keras.report.html import page, paragraphs, parts, section, table
from har_keras.serving.acceptance import FAR, UNSURE

DESCRIPTION = (
    "Classifies videos. The addresses under /v1/models and their JSON are "
    "those of TensorFlow Serving's REST API; /v1/videos takes a whole video."
)
_SCHEMAS = "#/components/schemas/"

_STRINGS = {"type": "array", "items": {"type": "string"}}
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_LISTS_OF_STRINGS = {"type": "array", "items": _STRINGS}
_LISTS_OF_NUMBERS = {"type": "array", "items": _NUMBERS}
_IMAGE = {
    "type": "object",
    "required": ["b64"],
    "properties": {
        "b64": {
            "type": "string",
            "contentEncoding": "base64",
            "minLength": 4,
            "pattern": "^([A-Za-z0-9+/]{4})+$",
        }
    },
    "additionalProperties": False,
}
_PIXELS: dict[str, Any] = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "maximum": 255},
    "minItems": 3,
    "maxItems": 3,
}
for _ in range(3):  # rows, frames, clips
    _PIXELS = {"type": "array", "minItems": 1, "items": _PIXELS}
_FRAMES = {"type": "array", "minItems": 1, "items": _IMAGE}
_ONE_OF_INPUTS = {
    "serving_default": ("clips", _PIXELS, "RGB clips of any length and size"),
    "serving_jpeg": ("frames_bytes", _FRAMES, "lists of JPEG or PNG frames"),
    "serving_gif": ("gif_bytes", _IMAGE, "animated GIFs"),
}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
    "additionalProperties": False,
}
_STATUSES = {
    400: "The request is not as described here.",
    401: "The API key is missing or not valid.",
    403: "A page of another site sent the request.",
    404: "There is no such model, version or label.",
    413: "The request, or the video, is too large or too long.",
    415: "The content has another type or encoding.",
    422: "The video can't be used; error has the reason.",
    429: "The queue is full: try again after Retry-After seconds.",
    500: "The server failed.",
    503: "The server is shutting down, or not ready.",
    504: "The request took too long.",
    507: "The video can't be stored.",
}
_OF_ALL = (400, 401, 403, 404, 413, 415, 429, 500, 503)


def _errors(*more: int) -> dict[int, Any]:
    statuses = sorted({*_OF_ALL, *more})
    content = {"application/json": {"schema": ERROR}}
    return {
        status: {"description": _STATUSES[status], "content": content}
        for status in statuses
    }


def _answers(
    description: str, schema: Any, *errors: int, example: Any = None
) -> dict[int | str, Any]:
    content: dict[str, Any] = {"schema": schema}
    if example is not None:
        content["example"] = example
    found: dict[int | str, Any] = {
        200: {
            "description": description,
            "content": {"application/json": content},
        }
    }
    return found | _errors(*errors)


def _object(
    optional: dict[str, Any] | None = None, **properties: Any
) -> dict[str, Any]:
    return {
        "type": "object",
        "required": sorted(properties),
        "properties": {**properties, **(optional or {})},
    }


_FROM_TRAINING = "From the training videos, where the model has a limit for it."


_VERSION_STATUS = _object(
    model_version_status={
        "type": "array",
        "items": _object(
            version={"type": "string"},
            state={"enum": ["AVAILABLE", "END"]},
            status=_object(
                error_code={"type": "string"}, error_message={"type": "string"}
            ),
        ),
    }
)
_OUTPUTS = _object(
    probabilities=_LISTS_OF_NUMBERS,
    top_labels=_LISTS_OF_STRINGS,
    top_scores=_LISTS_OF_NUMBERS,
    class_names=_LISTS_OF_STRINGS,
    accepted={"type": "array", "items": {"type": "boolean"}},
    usage=_STRINGS,
    optional={"distance": _NUMBERS | {"description": _FROM_TRAINING}},
)
_ROW = _object(
    probabilities=_NUMBERS,
    top_labels=_STRINGS,
    top_scores=_NUMBERS,
    class_names=_STRINGS,
    accepted={"type": "boolean"},
    usage={"type": "string"},
    optional={"distance": {"type": "number", "description": _FROM_TRAINING}},
)
_PREDICTION = {
    "oneOf": [
        _object(outputs=_OUTPUTS),
        _object(predictions={"type": "array", "items": _ROW}),
    ]
}
_SEGMENT = _object(
    start_seconds={"type": "number"},
    end_seconds={"type": "number"},
    label={"type": "string"},
    score={"type": "number"},
)
_CLASSIFIED = _object(
    model={"type": "string"},
    version={"type": "string"},
    video={"type": "string"},
    seconds={"type": "number"},
    label={"type": "string"},
    confidence={"type": "number"},
    accepted={"type": "boolean"},
    refusal={
        "enum": ["", UNSURE, FAR],
        "description": "Why it is not accepted.",
    },
    distance={"type": ["number", "null"], "description": _FROM_TRAINING},
    probabilities={
        "type": "object",
        "additionalProperties": {"type": "number"},
    },
    segments={
        "oneOf": [{"type": "array", "items": _SEGMENT}, {"type": "null"}]
    },
    note={
        "type": "string",
        "description": "What is wrong with the video, if it could be used.",
    },
)


def _request_of(signature: str) -> dict[str, Any]:
    name, item, _ = _ONE_OF_INPUTS[signature]
    column = {"type": "array", "minItems": 1, "items": item}
    named = _object(**{name: column}) | {"additionalProperties": False}
    row = _object(**{name: item}) | {"additionalProperties": False}
    rows = column | {"items": row}
    is_default = signature == "serving_default"
    names = [signature, ""] if is_default else [signature]
    known = {"signature_name": {"enum": names}}
    required = [] if is_default else ["signature_name"]
    return {
        "oneOf": [
            {
                "type": "object",
                "required": [*required, key],
                "properties": {**known, key: value},
                "additionalProperties": False,
            }
            for key, value in (("inputs", named), ("instances", rows))
        ]
    }


# A JPEG of one gray pixel.
_PIXEL = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0a"
    "HBwgJC4nICIsIxwcKDcpLDAxNDQ0Hyc5PTgyPC4zNDL/wAALCAABAAEBAREA/8QAHwAAAQUBAQEB"
    "AQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1Fh"
    "ByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZ"
    "WmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXG"
    "x8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/9oACAEBAAA/APn+v//Z"
)
EXAMPLE = {
    "signature_name": "serving_jpeg",
    "instances": [{"frames_bytes": [{"b64": _PIXEL}, {"b64": _PIXEL}]}],
}
_ANSWER = {
    "predictions": [
        {
            "probabilities": [0.1, 0.7, 0.2],
            "top_labels": ["walk", "work", "gym"],
            "top_scores": [0.7, 0.2, 0.1],
            "class_names": ["gym", "walk", "work"],
            "accepted": True,
            "usage": "{}",
        }
    ]
}
_VIDEO_ANSWER = {
    "model": "har",
    "version": "1",
    "video": "video.mp4",
    "seconds": 34.5,
    "label": "walk",
    "confidence": 0.81,
    "accepted": True,
    "refusal": "",
    "distance": 3.2,
    "probabilities": {"gym": 0.1, "walk": 0.7, "work": 0.2},
    "segments": [
        {"start_seconds": 0.0, "end_seconds": 21.0, "label": "walk",
         "score": 0.84},
        {"start_seconds": 21.0, "end_seconds": 34.5, "label": "work",
         "score": 0.66},
    ],
    "note": "",
}  # fmt: skip

STATUS: dict[str, Any] = {
    "tags": ["models"],
    "responses": _answers("Its versions.", _VERSION_STATUS),
}
METADATA: dict[str, Any] = {
    "tags": ["models"],
    "responses": _answers(
        "Its signatures.",
        _object(
            model_spec={"type": "object"},
            metadata={"type": "object"},
        ),
    ),
}
PREDICT: dict[str, Any] = {
    "tags": ["clips"],
    "responses": _answers(
        "What the model predicts of each clip.", _PREDICTION, 504,
        example=_ANSWER,
    ),
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "oneOf": [_request_of(x) for x in _ONE_OF_INPUTS]
                    },
                    "example": EXAMPLE,
                }
            },
        }
    },
}  # fmt: skip
VIDEO: dict[str, Any] = {
    "tags": ["videos"],
    "responses": _answers(
        "The class of the video, and its segments in time.", _CLASSIFIED,
        422, 504, 507, example=_VIDEO_ANSWER,
    ),
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["video"],
                        "properties": {
                            "video": {
                                "type": "string",
                                "format": "binary",
                                "minLength": 1,
                                "description": "A file in any format that "
                                "ffmpeg reads.",
                            }
                        },
                        "additionalProperties": False,
                    }
                }
            },
        }
    },
}  # fmt: skip
PROBE: dict[str, Any] = {
    "tags": ["health"],
    "responses": {
        status: {
            "description": text,
            "content": {
                "application/json": {
                    "schema": _object(status={"type": "string"})
                }
            },
        }
        for status, text in ((200, "Yes."), (503, "No."))
    },
}


def without_validation_errors(
    schema: dict[str, Any], *, with_keys: bool
) -> dict[str, Any]:
    """Returns a description without the errors that FastAPI would send.

    Args:
        schema: dict. OpenAPI, as FastAPI makes it.
        with_keys: bool. Whether clients need a key.
    """
    for operations in schema["paths"].values():
        for operation in operations.values():
            responses = operation["responses"]
            if "HTTPValidationError" in json.dumps(responses.get("422", "")):
                del responses["422"]
    components = schema.setdefault("components", {})
    for name in ("HTTPValidationError", "ValidationError"):
        components.get("schemas", {}).pop(name, None)
    if with_keys:
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        schema["security"] = [{"bearer": []}, {"header": []}]
    return schema


def docs_page(
    schema: dict[str, Any], models: Sequence[str], base_url: object
) -> str:
    """Returns the page that describes the API; it loads nothing from elsewhere.

    Args:
        schema: dict. OpenAPI.
        models: Sequence of str. Names of the models.
        base_url: URL of the server, as the reader reached it.
    """
    base = str(base_url).rstrip("/")
    content = [
        parts("api.html").opening(schema["info"], models),
        section(
            "Try it", _example(base, models[0], bool(schema.get("security")))
        ),
        section("Signatures of :predict", _signatures()),
    ]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            content.append(_operation(method.upper(), path, operation))
    return page("har_keras: API", content)


def _example(base: str, model: str, with_keys: bool) -> Markup:
    key = " -H 'Authorization: Bearer KEY'" if with_keys else ""
    body = json.dumps(EXAMPLE)
    commands = [
        f"curl{key} -F video=@video.mp4 '{base}/v1/videos?timeline=true'",
        f"curl{key} -d '{body}' {base}/v1/models/{model}:predict",
        f"har-keras predict {base}/v1/models/{model} video.mp4",
    ]
    made: Markup = parts("api.html").commands(commands)
    return made


def _signatures() -> Markup:
    return table(
        ("signature_name", "input", "what it is"),
        [(key, name, text) for key, (name, _, text) in _ONE_OF_INPUTS.items()],
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> Markup:
    said = operation.get("description", "")
    content = paragraphs([said])
    parameters = [
        (x["name"], x["in"], x.get("description", ""))
        for x in operation.get("parameters", [])
    ]
    if parameters:
        content += table(("parameter", "in", "what it is"), parameters)
    answers = operation["responses"]
    content += table(
        ("status", "what it means"),
        [(status, x["description"]) for status, x in answers.items()],
    )
    good = answers["200"]["content"]["application/json"]
    if "example" in good:
        shown = json.dumps(good["example"], indent=1)
        content += parts("api.html").example(shown)
    return section(f"{method} {path}", content)
