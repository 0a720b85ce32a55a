"""The first minutes on a GPU: does it compute the right pixels, and how fast?

    python -m benchmarks.gpu FOLDER             at most 6 minutes
    python -m benchmarks.gpu FOLDER --quick     at most 2 minutes

Needs CuPy, NumPy and pytest; it installs nothing. Six steps, each a process with a time limit: `rates`
measures what decides a prediction; `smoke` compares every path of the CUDA backend with the NumPy backend;
the tests that need a GPU; `bench`, with those peers that can be imported; and smoke once more under
compute-sanitizer's memcheck and racecheck where that is installed. What they print and measure is in FOLDER
as soon as it is known.

With --stand-in the kernels run on the CPU, on tiny images, to see that the script works.
"""
