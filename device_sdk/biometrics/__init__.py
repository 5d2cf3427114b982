"""Encoders: from what a sensor gives to the binary code that the protocol compares."""

from device_sdk.biometrics.binary_code_encoder import BinaryCodeEncoder
from device_sdk.biometrics.code import BinaryCode, differing_and_valid
from device_sdk.biometrics.embedding_encoder import EmbeddingEncoder
from device_sdk.biometrics.encoder import Encoder, consistent, majority
from device_sdk.biometrics.errors import EncodingError
from device_sdk.biometrics.projection_constants import ProjectionConstants
from device_sdk.biometrics.sensor import Sensor
from device_sdk.biometrics.sign_projection import SignProjection
from device_sdk.biometrics.simulated_sensor import SimulatedSensor

__all__ = [
    "BinaryCode",
    "BinaryCodeEncoder",
    "EmbeddingEncoder",
    "Encoder",
    "EncodingError",
    "ProjectionConstants",
    "Sensor",
    "SignProjection",
    "SimulatedSensor",
    "consistent",
    "differing_and_valid",
    "majority",
]
