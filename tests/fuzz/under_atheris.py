"""One property under atheris, which ends the process: started by `run.py` alone."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["smartredis_wsgi"]):
    from . import targets  # the first that imports the package

import redis
from hypothesis import HealthCheck, given, settings

from .seeds import SEEDS

MAX_INPUT = 8192
_UNTIMED = settings(
    database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


def main(name: str, seconds: str, found: str, url: str) -> None:
    logging.disable(logging.CRITICAL)
    target = targets.TARGETS[name]
    rest: list[Any] = [redis.Redis.from_url(url)] if target.needs_server else []

    def check(value: Any) -> None:
        target.check(value, *rest)

    corpus = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=found))
    if target.strategy is None:
        for place, seed in enumerate(SEEDS[name]):
            (corpus / str(place)).write_bytes(seed)
    else:
        check = _UNTIMED(given(target.strategy)(check)).hypothesis.fuzz_one_input
    options = [f"-max_total_time={seconds}", f"-max_len={MAX_INPUT}", "-timeout=60"]
    options += [f"-artifact_prefix={found}/{name}-", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], str(corpus), *options], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
