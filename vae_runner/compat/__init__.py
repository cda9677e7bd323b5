"""Every write into another library's internals, and what is read in them: one file a library.

Each says why, and for which versions it holds, those that `pyproject.toml` allows. `tests/compat` has a test of each
which fails when the library needs it no more, or is not made in this way any more.
"""
