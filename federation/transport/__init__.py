"""Finding other servers and asking them: the only part of `federation` that does I/O."""
