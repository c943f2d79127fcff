"""Where the demo begins."""

import argparse
import errno
import logging
import sys
import threading

from . import __doc__ as about
from .once import compare
from .site import serve

_PORT = 8000


def main() -> None:
    """Serve the page until Ctrl-C; with --once print the table and end."""
    parser = argparse.ArgumentParser(
        prog="smartredis_wsgi.demo",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--once", action="store_true", help="print a table and end")
    parser.add_argument("--port", type=int, default=_PORT, help="default %(default)s")
    arguments = parser.parse_args()
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a crowd is one
    try:
        _run(0 if arguments.once else arguments.port, arguments.once)
    except KeyboardInterrupt:
        print("ended")
    except OSError as failure:
        if failure.errno != errno.EADDRINUSE:
            raise
        sys.exit(f"port {arguments.port} is taken; give another one: --port")


def _run(port: int, once: bool) -> None:
    site, found = serve(port)
    if once:
        compare(site, found)
    else:
        print(f"http://127.0.0.1:{found} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
