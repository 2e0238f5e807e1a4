"""The bench: how fast a gateway is beside plain forwarding and masquerade, in namespaces of its own."""
