"""Tandem's protocol core: pure functions on typed values.

No I/O, no clock, no logging: parties exchange bytes, and sending them is somebody else's job.
"""
