"""The commit log: see README.md."""
