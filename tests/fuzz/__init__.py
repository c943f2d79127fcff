"""What nobody would send, sent: one property for each place where others' bytes enter.

`targets.py` has the properties. ``make test`` plays a few inputs for each of them, by
hypothesis (`tests/test_fuzz.py`); ``make fuzz`` plays as many as there is time for,
with atheris, which follows the branches that an input takes in the package (`run.py`).
"""
