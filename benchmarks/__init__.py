"""How fast histeq is, beside other libraries, on the same images and with as many threads.

    python -m benchmarks                    run everything, write JSON, print the tables
    python -m benchmarks --quick            tiny images, a few rounds: does it work?
    python -m benchmarks table FILE.json    print the tables of an earlier run, for benchmarks/results

`cases.py` is the table of what is timed against what, and of the ratios to reach; what a case is, and how
each library is called, is `histeq/_bench`'s. `histeq bench` is what users have.
"""
