"""What a flow is, by its packets: one engine for live traffic and for capture files. Pure.

    engine      IP packets -> flows with answers; `Detector` is what callers use
    answers     protocol, confidence, evidence; the datagram that a recogniser sees
    flows       the flows and their table, within bounds
    registry    names of structures -> recognisers (`recogniser` has their contract)
    declared    protocols that a file describes without code

The parsers are in `wire`; what protocols there are is the `catalogue`'s to say.
"""
