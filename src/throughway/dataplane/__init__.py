"""Adapters to the kernel: BPF, nftables, conntrack, links."""
