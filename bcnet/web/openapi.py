"""The description of the API, OpenAPI 3.1: the one document that programs are written against.

Data only; a test sends what it allows, and more, to the application and compares the answers.
"""

from bcnet import __version__
from bcnet.config import CLASS_NAMES, HEATMAP_METHODS

ERROR_TEXTS = {
    400: "A malformed request",
    401: "No valid token",
    403: "From another site or to another name",
    404: "Nothing there, or nothing of yours",
    413: "More than 25 MB, 20 pictures or 1,000 patients",
    415: "No picture, or another type of body",
    422: "Unreadable pictures, malformed data or a value that is not allowed",
    429: "Too many requests",
    503: "Too many pictures are waiting",
}


def describe_api() -> dict:
    """Describe every request that `/api/v1/` takes, and every answer it gives.

    Example:
        >>> sorted(describe_api()["paths"])[0]
        '/api/v1/history'
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bcnet",
            "version": __version__,
            "description": "Benign or malignant. Research and teaching; not a diagnostic device.",
        },
        "security": [{}, {"token": []}],
        "paths": {
            "/api/v1/predict": {"post": _describe_predict()},
            "/api/v1/history": {"get": _describe_history()},
            "/api/v1/history/{id}": {"parameters": [_ID], "get": _describe_case()},
            "/api/v1/outcomes/{id}": {
                "parameters": [_ID],
                "put": _describe_outcome("setOutcome"),
                "post": _describe_outcome("postOutcome"),
            },
        },
        "components": {
            "schemas": {"Answers": _ANSWERS, "Case": _CASE, "Cases": _CASES, "Error": _ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _refer(name):
    return {"$ref": f"#/components/schemas/{name}"}


def _answer_with(name, *failures):
    """List the answers of an operation: the good one and its failures."""
    good = {"description": "Done", "content": {"application/json": {"schema": _refer(name)}}}
    bad = {"application/json": {"schema": _refer("Error")}}
    texts = {code: ERROR_TEXTS[code] for code in (401, 403, *failures)}
    return {"200": good} | {
        str(code): {"description": text, "content": bad} for code, text in texts.items()
    }


def _describe_predict():
    return {
        "operationId": "predict",
        "summary": "Answer pictures or measurements",
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": _PICTURES},
                "application/json": {"schema": _MEASUREMENTS},
            },
        },
        "responses": _answer_with("Answers", 400, 413, 415, 422, 429, 503),
    }


def _describe_history():
    return {
        "operationId": "listHistory",
        "summary": "Give your answers, newest first, fifty a page",
        "parameters": [
            {"name": name, "in": "query", "schema": schema} for name, schema in _FILTERS.items()
        ],
        "responses": _answer_with("Cases", 422),
    }


def _describe_case():
    return {
        "operationId": "showCase",
        "summary": "Give one answer",
        "responses": _answer_with("Case", 404),
    }


def _describe_outcome(name):
    return {
        "operationId": name,
        "summary": "Enter what a case turned out to be; null takes it back",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _OUTCOME}},
        },
        "responses": _answer_with("Case", 400, 404, 413, 415, 422),
    }


def _nullable(kind):
    return {"type": [kind, "null"]}


_LABEL = {"enum": list(CLASS_NAMES)}
_NULLABLE_LABEL = {"enum": [*CLASS_NAMES, None]}
_SHARE = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_DATE = {"type": "string", "format": "date"}

_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
}

_FILTERS = {
    "page": {"type": "integer", "minimum": 1, "maximum": 999_999},
    "model": {"type": "string"},
    "label": _LABEL,
    "status": {"type": "string"},
    "kind": {"enum": ["picture", "measurements"]},
    "batch": {"type": "string"},
    "outcome": {"enum": [*CLASS_NAMES, "unknown", "known"]},
    "text": {"type": "string"},
    "since": _DATE,
    "until": _DATE,
}

_PICTURES = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {
            "type": "array",
            "description": "at least one, at most 20",
            "minItems": 1,
            "items": {"type": "string", "contentMediaType": "application/octet-stream"},
        },
        "model": {"type": "string", "description": "by default the first that is loaded"},
        "method": {"enum": list(HEATMAP_METHODS), "description": "of the heatmap judged"},
        "class": _LABEL,
    },
}

_VALUES = {
    "type": "object",
    "description": "the thirty measurements by name, such as `mean radius`",
    "additionalProperties": {"type": ["number", "string", "null"]},
}

_MEASUREMENTS = {
    "type": "object",
    "required": ["measurements"],
    "properties": {
        "measurements": {"anyOf": [_VALUES, {"type": "array", "items": _VALUES, "minItems": 1}]},
        "model": {"type": "string"},
    },
}

_OUTCOME = {
    "type": "object",
    "required": ["outcome"],
    "properties": {"outcome": _NULLABLE_LABEL},
}

_ANSWERS = {
    "type": "object",
    "required": ["model", "results", "notice"],
    "properties": {
        "model": {"type": "string"},
        "notice": {"type": "string"},
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "name", "probability", "label", "status", "verdict"],
                "properties": {
                    "id": _nullable("string"),
                    "name": {"type": "string"},
                    "probability": _SHARE,
                    "label": _NULLABLE_LABEL,
                    "status": {"type": "string"},
                    "verdict": _nullable("string"),
                },
            },
        },
    },
}

_CASE = {
    "type": "object",
    "required": ["id", "time", "kind", "model", "probability", "label", "status", "outcome"],
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "time": {"type": "string", "format": "date-time"},
        "probability": _SHARE,
        "threshold": _SHARE,
        "label": _NULLABLE_LABEL,
        "outcome": _NULLABLE_LABEL,
    },
}

_CASES = {
    "type": "object",
    "required": ["total", "page", "results"],
    "properties": {
        "total": {"type": "integer"},
        "page": {"type": "integer"},
        "results": {"type": "array", "items": _refer("Case")},
    },
}

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}, "reference": {"type": "string"}},
}
