"""Sessions: one VPN use as a person sees it, how far it got, and why it stopped. Pure; the clock is an argument."""
