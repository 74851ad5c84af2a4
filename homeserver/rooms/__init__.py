"""Rooms in memory, and everything that is done in them: see README.md."""
