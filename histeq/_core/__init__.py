"""What every backend shares: the Protocol, dispatch, rules, CLAHE's grid, YCrCb, threads."""
