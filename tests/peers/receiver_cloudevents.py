"""A consumer of batches of CloudEvents that reads each event with the SDK, and wants to be asked first.

Prints its port on the first line, then the id of each event. The SDK knows no batches, so the array is taken apart here.
"""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cloudevents.core.formats.json import JSONFormat

allowed = set()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_OPTIONS(self):
        origin = self.headers["WebHook-Request-Origin"]
        allowed.add(origin)
        self.answer(200, {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if not allowed:
            return self.answer(403, {})
        if self.headers["content-type"] != "application/cloudevents-batch+json":
            return self.answer(415, {})
        try:
            events = [JSONFormat().read(None, json.dumps(event)) for event in json.loads(body)]
        except Exception as error:
            print(f"refused: {error}", flush=True)
            return self.answer(400, {})
        for event in events:
            print(event.get_id(), flush=True)
        self.answer(204, {})

    def answer(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
