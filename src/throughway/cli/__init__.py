"""The command line: what is asked of the daemon and how its answers look.

It knows the control client and nothing below. What costs time to import is imported by the command
that needs it, so that `throughway --help` and completion answer at once.
"""
