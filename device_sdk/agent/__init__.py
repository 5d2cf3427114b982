"""The local agent: one vault behind 127.0.0.1, for the browser extension and the person who consents."""
