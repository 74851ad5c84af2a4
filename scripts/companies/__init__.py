"""`scripts/network`: several companies' nodes on one machine, to try federation with."""
