"""What algorithms derive from, and what they share."""
