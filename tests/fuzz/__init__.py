"""Random and mutated packets, by the million: they crash nothing and are misdelivered by nothing.

`mutation` makes the packets, `parsers` and `bpf` let them through the code and look at what comes out, `oracle` says
without any of that code what may come out of the BPF programs. `script/fuzz` runs it all; a few
seconds of each are tests.
"""
