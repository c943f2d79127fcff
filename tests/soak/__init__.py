"""Real processes, faults without end, and a log of what was acknowledged.

::

    ledger.py   what was tried and acknowledged, against what is stored; pure
    worker.py   a process: requests by chance, and the faults that hit them
    chaos.py    what befalls the servers meanwhile
    run.py      the command line: python -m soak.run, from tests/

The processes are those of `histories.crew`, the states those of `illness.states`.
"""
