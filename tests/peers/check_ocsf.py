"""Checks events against the JSON Schema of their OCSF class.

    check_ocsf.py VERSION < one event a line

Prints how many events each class had. Ends with 1 and prints what is wrong when an event is refused.
"""

import collections
import json
import sys

import jsonschema
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

schemas = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=sys.argv[1]))
validators = {}
counts = collections.Counter()
refused = 0
for line in sys.stdin:
    event = json.loads(line)
    uid = event["class_uid"]
    if uid not in validators:
        schema = schemas.get_class_schema(schemas.lookup_class_name_from_uid(uid))
        validators[uid] = jsonschema.Draft202012Validator(schema)
    errors = [f"{error.json_path}: {error.message[:300]}" for error in validators[uid].iter_errors(event)]
    if event["metadata"]["version"] != sys.argv[1]:
        errors.append(f"metadata.version is {event['metadata']['version']}")
    counts[uid] += 1
    if errors:
        refused += 1
        if refused <= 10:
            print(f"{errors}\n  in {line[:2000]}", file=sys.stderr)
for uid, count in sorted(counts.items()):
    print(uid, count)
sys.exit(1 if refused else 0)
