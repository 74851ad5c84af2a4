"""The node's tables: SQL in named constants, functions that take the connection first and return rows."""
