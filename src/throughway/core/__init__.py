"""The pure core: values, events, commands, the tracker and its inference. No I/O; the clock is an argument."""
