"""A model world that drives the tracker of the daemon and knows the truth: `throughway simulate`."""
