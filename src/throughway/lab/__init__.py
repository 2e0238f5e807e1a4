"""Real VPN clients and servers in network namespaces, with a gateway between them."""
