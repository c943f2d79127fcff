"""Our own code, broken in one place each by rule: is there a test that sees it?

`explorer/mutants.py` has mutants that somebody thought of; these are all that there
are, or a sample. Python's are cosmic-ray's; Lua's are made here. Each runs in a copy of
the package, in processes of its own: the working tree is not touched.
"""
