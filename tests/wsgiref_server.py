"""wsgiref as a command, with a thread for each request: ``MODULE:APP HOST:PORT``."""

from __future__ import annotations

import importlib
import os
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server


class Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    module, _, name = sys.argv[1].partition(":")
    host, _, port = sys.argv[2].partition(":")
    app = getattr(importlib.import_module(module), name)
    make_server(host, int(port), app, Threads, Quiet).serve_forever()
