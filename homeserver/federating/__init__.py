"""This node among other servers: keys, who may talk to it, what they may ask, and what it asks them."""
