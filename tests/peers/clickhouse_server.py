"""ClickHouse's HTTP interface over chdb, ClickHouse in a process: `python clickhouse_server.py DIR [STATEMENT ...]`,
in chdb's environment.

Prints its port. A request is answered as ClickHouse does as far as a client can tell: SQL in the body or `query`,
parameters `param_NAME`, settings by their names, the default format, the summary of what was read, an error as status
400 with its text and code. One request at a time, each with a connection of its own, all in one session. Data stays in
DIR, which may be followed by `?config-file=FILE`; statements, such as `SET readonly = 1`, are run before anything is
asked.
"""

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

from chdb.session import Session

OF_HTTP = {"query", "database", "default_format", "session_id", "session_timeout", "wait_end_of_query", "query_id"}

session = Session(sys.argv[1])
for statement in sys.argv[2:]:
    session.query(statement)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        given = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        sql = self.rfile.read(int(self.headers.get("content-length", 0))).decode() or given.get("query", "")
        parameters = {name.removeprefix("param_"): value for name, value in given.items() if name.startswith("param_")}
        headers = {}
        try:
            for name, value in given.items():
                if name not in OF_HTTP and not name.startswith("param_"):
                    session.query(f"SET {name} = '{value}'")
            answer = session.query(sql, given.get("default_format", "TabSeparated"), params=parameters)
            status, content = 200, answer.bytes() or b""
            headers["X-ClickHouse-Summary"] = json.dumps(
                {
                    "read_rows": str(answer.rows_read()),
                    "read_bytes": str(answer.bytes_read()),
                    "elapsed_ns": str(round(answer.elapsed() * 1e9)),
                }
            )
        except Exception as problem:
            status, content = 400, str(problem).encode()
            if code := re.search(r"Code: (\d+)", str(problem)):
                headers["X-ClickHouse-Exception-Code"] = code[1]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
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
