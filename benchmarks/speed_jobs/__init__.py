"""What `speed.py` is made of: contestants, the jobs they do, how they are timed, and the page."""
