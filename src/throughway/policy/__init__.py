"""Settings to rules, and rules to findings: pure functions that print well. No kernel, no clock, no files."""
