"""The command ``veche``: a module a command, each imported only when it is run."""
