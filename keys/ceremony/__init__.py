"""The folder of a ceremony: its files, manifest and report; making, checking, inspecting and rewrapping it."""
