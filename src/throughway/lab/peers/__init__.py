"""The VPN programs of the lab, one file for each: how a server and its clients are configured and started."""
