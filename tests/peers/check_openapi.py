"""Checks a description of an interface, and exchanges against it.

Standard input: {"document": {…}, "exchanges": [{"method": "GET", "path": "/…", "status": 200, "type": "…", "body": "…"}]}.
Each answer must be one that the document describes, its body valid by the schema that is given there; each operation of
the document must have been asked, with success. Prints what is wrong, a line each.
"""

import json
import re
import sys

from jsonschema import Draft202012Validator
from openapi_spec_validator import validate


def resolve(document, part):
    while "$ref" in part:
        target = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        part = target
    return part


def find(document, method, path):
    """The operation that a path asks for: the one with the fewest parameters, where several fit."""
    found = []
    for template, operations in document["paths"].items():
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path) and method.lower() in operations:
            found.append((template.count("{"), template))
    return min(found, default=(0, None))[1]


def check(document, exchange):
    method, path, status = exchange["method"], exchange["path"], str(exchange["status"])
    template = find(document, method, path)
    if template is None:
        return None, f"{method} {path} is not described"
    responses = document["paths"][template][method.lower()]["responses"]
    if status not in responses:
        return template, f"{method} {template}: the status {status} is not described"
    content = resolve(document, responses[status]).get("content")
    if content is None:
        return template, f"{method} {template}: {status} has a body" if exchange["body"] else None
    if exchange["type"].split(";")[0] not in content:
        return template, f"{method} {template}: {status} is of the type {exchange['type']}"
    schema = {**content["application/json"]["schema"], "components": document["components"]}
    errors = [error.message for error in Draft202012Validator(schema).iter_errors(json.loads(exchange["body"]))]
    return template, f"{method} {template}: {status}: {errors[0]}: {exchange['body'][:300]}" if errors else None


def main():
    given = json.load(sys.stdin)
    document = given["document"]
    validate(document)
    wrong, succeeded = [], set()
    for exchange in given["exchanges"]:
        template, problem = check(document, exchange)
        if problem:
            wrong.append(problem)
        elif exchange["status"] < 300:
            succeeded.add((exchange["method"].lower(), template))
    for template, operations in document["paths"].items():
        wrong += [f"{m} {template} was never asked with success" for m in operations if (m, template) not in succeeded]
    print("\n".join(wrong))
    sys.exit(bool(wrong))


main()
