"""Public constants of face profiles, and how each was made."""
