"""The table of ``--once``: what of the same crowds is left in each store."""

import threading
from collections.abc import Callable

from .acts import Gate
from .crowd import REQUESTS, WORKS, Client
from .site import Site

_TITLES = {
    "none": "lock=none",
    "single": "lock=single",
    "redlock": "lock=redlock",
    "naive": "naive blob",
}


def compare(site: Site, port: int) -> None:
    """Play every trial with every store and print what survived."""
    version = site.redis.info("server")["valkey_version"]
    print(f"Valkey {version}; Redlock on three more of them; waitress\n")
    print(f"{'':41}" + "".join(f"{_TITLES[name]:19}" for name in site.stores))
    for title, trial in _TRIALS.items():
        print(f"{title:41}", end="", flush=True)
        for name in site.stores:
            client = Client(port, name)
            client.begin()
            came_to = trial(client, site.gates[name])
            print(f"{came_to:19}", end="", flush=True)
        print()
    print(
        "\nWithout a lock the last of several requests wins where they write one field;"
        "\nincr, or a lock, counts exactly. Neither rests on luck: see the tests."
    )


def _crowd(name: str, word: str) -> Callable[[Client, Gate], str]:
    def came_to(client: Client, _: Gate) -> str:
        list(client.crowd(WORKS[name]))
        return f"{WORKS[name].kept(client.show())} of {REQUESTS} {word}"

    return came_to


def _logout(client: Client, gate: Gate) -> str:
    cookie = client.cookie
    slow = threading.Thread(target=client.post, args=["slow/late"])
    slow.start()
    gate.wait_for_somebody()
    client.post("logout")
    gate.open()
    slow.join()
    client.cookie = cookie
    return "came back" if client.show() else "stays out"


_TRIALS: dict[str, Callable[[Client, Gate], str]] = {
    f"{REQUESTS} requests, each sets another field": _crowd("set", "kept"),
    f"{REQUESTS} appends to one list": _crowd("append", "kept"),
    f"{REQUESTS} times {WORKS['add'].code}": _crowd("add", "counted"),
    f"{REQUESTS} times {WORKS['incr'].code}": _crowd("incr", "counted"),
    "a logout during a slow request": _logout,
}
