"""Veche's node: storage below, services above it, HTTP above them, one composition root (``app``)."""
