"""Who writes the spans, as an OpenTelemetry resource."""

import uuid

from opentelemetry.sdk.resources import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)

from otel_agentperf import __version__

PROXY_SERVICE = "otel-agentperf-proxy"


def resource(service_name: str = PROXY_SERVICE) -> Resource:
    """The resource of this process. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over what is set here."""
    told = OTELResourceDetector().detect().attributes or {}
    own = {
        SERVICE_NAME: service_name,
        SERVICE_VERSION: __version__,
        SERVICE_INSTANCE_ID: str(uuid.uuid4()),
    }
    return Resource.create({name: value for name, value in own.items() if name not in told})
