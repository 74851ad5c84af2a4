"""Which service stands on which: a class for each part of a node, made by `homeserver.app`."""
