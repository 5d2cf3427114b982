"""Keys that exist: loading them, and refusing the weak ones."""
