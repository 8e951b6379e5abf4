"""What the events say to people."""
