"""The two-party login: messages, device side, server side."""
