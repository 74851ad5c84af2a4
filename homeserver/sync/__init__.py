"""What a client has missed: /sync and its older relatives. See README.md."""
