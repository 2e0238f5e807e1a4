"""The BPF programs, packet by packet: BPF_PROG_TEST_RUN runs them, scapy says what should come out."""
