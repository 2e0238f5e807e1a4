"""The operator's switches: what may pass, for whom. Pure.

    position    the three positions, the places that they are set for, and what was set
    board       which position holds for a protocol, a device and a peer: the most specific one
    reading     text of protocols.toml -> what was set, or an error that names the line and the remedy
    writing     one more setting in that text, with the operator's comments kept
    names       the nearest name, for errors
    flows       the flows that were detected, and which of them are blocked

Files are read and written by `throughway.switch_files`.
"""
