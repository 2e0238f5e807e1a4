"""`throughway identify`: what the flows in capture files are. Reads files and prints; the naming is `detect`'s."""
