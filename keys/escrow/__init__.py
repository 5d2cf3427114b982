"""Word lists for custodians of the server's key-encryption key."""
