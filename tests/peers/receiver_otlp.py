"""A receiver of OTLP logs over HTTP: reads each request with the protocol's own messages, gzip or not.

Prints its port on the first line, then the `log.record.uid` of each log record. Answers as the protocol has it: an
ExportLogsServiceResponse, or a Status with 400 for what is no request.
"""

import gzip
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path != "/v1/logs" or self.headers["content-type"] != "application/json":
            return self.answer(404, "{}")
        try:
            if self.headers["content-encoding"] == "gzip":
                body = gzip.decompress(body)
            request = json_format.Parse(body, ExportLogsServiceRequest())
        except (OSError, json_format.ParseError) as error:
            return self.answer(400, json_format.json.dumps({"code": 3, "message": str(error)}))
        for resource in request.resource_logs:
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    attributes = {pair.key: pair.value.string_value for pair in record.attributes}
                    print(attributes["log.record.uid"], flush=True)
        self.answer(200, json_format.MessageToJson(ExportLogsServiceResponse()))

    def answer(self, status, body):
        body = body.encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
