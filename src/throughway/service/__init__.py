"""The daemon: the only place where the core and the adapters meet."""
