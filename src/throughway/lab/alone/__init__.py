"""Programs that run by themselves in a namespace or a guest: Python's standard library, and nothing of Throughway."""
