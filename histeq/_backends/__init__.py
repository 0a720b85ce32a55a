"""The backends: a folder each, whose `backend.py` has the functions of `histeq._core.backend.Backend`."""
