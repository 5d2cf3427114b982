"""Iris codes with masks: reading OpenIris templates, reducing them, and a simulated iris for tests and reports."""

from device_sdk.biometrics.iris.iris_code import IrisCode
from device_sdk.biometrics.iris.iris_encoder import IrisEncoder
from device_sdk.biometrics.iris.simulated_iris import SimulatedIris

__all__ = ["IrisCode", "IrisEncoder", "SimulatedIris"]
