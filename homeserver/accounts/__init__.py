"""Accounts of this node: registration, login, devices, tokens, and who makes a request."""
