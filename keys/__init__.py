"""Offline provisioning of split keys by security teams.

This release has no dealer: each device makes and splits its own keys (`device_sdk.key_generation`). The room is
here because the import contracts name it.
"""
