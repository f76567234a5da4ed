"""ClickHouse's HTTP interface over chdb, ClickHouse in a process: `python clickhouse_server.py`, in chdb's environment.

Prints its port. A request is answered as ClickHouse does as far as a client can tell: SQL in the body or `query`,
parameters `param_NAME`, the default format, an error as status 400 with its text. One connection at a time.
"""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

from chdb.session import Session

session = Session()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        given = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        sql = self.rfile.read(int(self.headers.get("content-length", 0))).decode() or given.get("query", "")
        parameters = {name.removeprefix("param_"): value for name, value in given.items() if name.startswith("param_")}
        try:
            answer = session.query(sql, given.get("default_format", "TabSeparated"), params=parameters)
            status, content = 200, answer.bytes() or b""
        except Exception as problem:
            status, content = 400, str(problem).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
try:
    server.serve_forever()
except KeyboardInterrupt:
    sys.exit(0)
