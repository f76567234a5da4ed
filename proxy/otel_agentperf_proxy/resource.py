"""Who writes the telemetry, as an OpenTelemetry resource."""

import os
import platform
import socket
import sys
import uuid
from typing import Final

from opentelemetry.resource.detector.containerid import ContainerResourceDetector
from opentelemetry.sdk.environment_variables import OTEL_EXPERIMENTAL_RESOURCE_DETECTORS
from opentelemetry.sdk.resources import (
    CONTAINER_ID,
    HOST_ARCH,
    HOST_NAME,
    PROCESS_PID,
    PROCESS_RUNTIME_NAME,
    PROCESS_RUNTIME_VERSION,
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)

from otel_agentperf import __version__

PROXY_SERVICE = "otel-agentperf-proxy"

MIN_CONTAINER_ID: Final = 32
"""Characters; the detector takes the last word of any control group for one."""


def resource(service_name: str = PROXY_SERVICE) -> Resource:
    """The resource of this process.

    OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over what is set or detected here. Detected are the host, the
    process and the container; where OTEL_EXPERIMENTAL_RESOURCE_DETECTORS is set, what it names instead.
    """
    told = OTELResourceDetector().detect().attributes or {}
    own: dict[str, str | int] = {
        SERVICE_NAME: service_name,
        SERVICE_VERSION: __version__,
        SERVICE_INSTANCE_ID: str(uuid.uuid4()),
    }
    if not os.environ.get(OTEL_EXPERIMENTAL_RESOURCE_DETECTORS, "").strip():
        own |= _detected()
    return Resource.create({name: value for name, value in own.items() if name not in told})


def _detected() -> dict[str, str | int]:
    """What is on by default: what tells one instance from another, and nothing of command lines, users and paths."""
    found: dict[str, str | int] = {
        HOST_NAME: socket.gethostname(),
        HOST_ARCH: platform.machine(),
        PROCESS_PID: os.getpid(),
        PROCESS_RUNTIME_NAME: sys.implementation.name,
        PROCESS_RUNTIME_VERSION: platform.python_version(),
    }
    container = ContainerResourceDetector().detect().attributes.get(CONTAINER_ID)
    if isinstance(container, str) and len(container) >= MIN_CONTAINER_ID:
        found[CONTAINER_ID] = container
    return found
