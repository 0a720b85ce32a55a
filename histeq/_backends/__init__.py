"""The backends: one module each, all with the functions of `histeq._backend.Backend`."""
