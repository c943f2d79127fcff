"""Greenlets that share a store and are torn out of their requests: ``torn.py URL``.

Prints how many got another's session, how many were torn, how many there were.
"""

# ruff: noqa: E402 - gevent has to come before whatever makes sockets

import gevent.monkey

gevent.monkey.patch_all()

import random
import sys

import gevent
from gevent.pool import Pool

from smartredis_wsgi import SessionStore

REQUESTS = 1000


def main(url: str) -> None:
    store = SessionStore.from_config(url=url)
    known = []
    for number in range(20):
        with store.open() as session:
            session["owner"] = number
        known.append(session.id)
    counts = {"foreign": 0, "torn": 0}

    def request(number: int) -> None:
        owner = number % len(known)
        with gevent.Timeout(random.uniform(0, 0.02), False):
            with store.open(known[owner]) as session:
                counts["foreign"] += session["owner"] != owner
                session["seen"] = number
            return
        counts["torn"] += 1

    Pool(20).map(request, range(REQUESTS))
    print(counts["foreign"], counts["torn"], REQUESTS)


if __name__ == "__main__":
    main(sys.argv[1])
