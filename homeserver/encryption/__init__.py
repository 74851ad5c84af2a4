"""What the node does for messages that it cannot read: keys, devices, backups."""
