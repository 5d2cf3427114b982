"""Use cases. A function here reads like what it does; it knows SQL rows and protocol messages, and nothing of
HTTP routing.
"""
