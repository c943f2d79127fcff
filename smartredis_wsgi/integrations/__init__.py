"""The session as each framework's users know it: one module for each framework.

All are thin: the middleware or the store does the work. None is imported unless it is
asked for, so none of the frameworks is needed by the others.
"""
