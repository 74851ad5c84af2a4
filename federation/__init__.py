"""The server-to-server protocol as pure rules; only ``federation.transport`` does I/O."""
