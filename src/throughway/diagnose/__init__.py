"""What stands between a machine and working tunnels: checks that end in findings with their remedies."""
