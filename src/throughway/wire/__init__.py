"""Bytes to values and nothing more: the headers that Throughway reads. Pure; parsers answer None, never raise."""
