"""What a flow is, by its packets: one engine for live traffic and for capture files. Pure.

    engine      IP packets -> flows with answers; `Detector` is what callers use
    judging     the same for one flow, for callers who keep the flows themselves
    answers     protocol, confidence, evidence; the datagram that a recogniser sees
    flows       the flows and their table, within bounds
    registry    names of structures -> recognisers (`recogniser` has their contract)
    declared    protocols that a file describes without code
    prefilters  what a payload must have for any of it to begin; `structures` has those of the recognisers

The parsers are in `wire`; what protocols there are is the `catalogue`'s to say.
"""
