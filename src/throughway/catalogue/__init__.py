"""The VPN protocols as data: what a file says of one, how it is read, and all of them together. Pure.

    protocol    the values
    reading     text of a file -> Protocol, or an error that names the line and the remedy
    lines       where in a file a key stands
    catalogue   the protocols together: by ID, by family
    protocols/  the files that come with Throughway

Files are read from disk by `throughway.catalogue_files`.
"""
