"""Reads an OTLP/JSON request for logs from standard input with the protocol's own messages, and prints what they hold.

One line for each log record. The request goes through the binary form once, so that nothing of it exists in JSON only.
Unknown fields and values out of range end the script with an error.
"""

import json
import sys

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

request = json_format.Parse(sys.stdin.buffer.read(), ExportLogsServiceRequest())
request = ExportLogsServiceRequest.FromString(request.SerializeToString())


def value(any_value):
    kind = any_value.WhichOneof("value")
    return {"kind": kind, "value": getattr(any_value, kind)}


for resource_logs in request.resource_logs:
    resource = {pair.key: value(pair.value) for pair in resource_logs.resource.attributes}
    for scope_logs in resource_logs.scope_logs:
        for record in scope_logs.log_records:
            print(
                json.dumps(
                    {
                        "service": resource["service.name"]["value"],
                        "scope": scope_logs.scope.name,
                        "time": record.time_unix_nano,
                        "observed": record.observed_time_unix_nano,
                        "severity": record.severity_number,
                        "event": record.event_name,
                        "trace": record.trace_id.hex(),
                        "attributes": {pair.key: value(pair.value) for pair in record.attributes},
                        "body": record.body.string_value,
                    }
                )
            )
