"""HTTP and nothing else: a route parses, calls one service function and answers."""
