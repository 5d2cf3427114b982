"""The key port: where the key-encryption key is, and what wraps data keys under it."""
