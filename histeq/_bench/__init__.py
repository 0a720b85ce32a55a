"""What `histeq bench` and `histeq.bench` do: time the backends beside other libraries.

Each library runs in a process of its own (`worker`), which the measuring process (`session`) asks, in turns,
to make a call (`remote`): what crashes or hangs there is reported, and ended. `cases` says what is timed,
`peers` how each library is called, `images` on what; `statistics` when the times suffice and what they tell.
"""
