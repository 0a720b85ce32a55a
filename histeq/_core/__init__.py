"""Code that all backends share: the protocol, dispatch, rules, CLAHE's tile grid, YCrCb and threads."""
