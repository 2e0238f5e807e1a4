"""VPN passthrough for Linux routers."""

__version__ = "0.1.0.dev0"
