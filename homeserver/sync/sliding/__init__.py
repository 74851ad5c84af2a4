"""Simplified sliding sync: see README.md."""
