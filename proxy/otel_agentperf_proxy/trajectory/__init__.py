"""From calls to trajectories: who made a call, which turn of which run it is, and which tools ran in between.

Pure: no I/O, no clock, no SDK. `agents` reads explicit identities, `rules` finds the trajectory where there is none,
`history` and `state` are what they look things up in, `tools` makes tool executions of the gaps, `linker` is the door.
"""

from otel_agentperf_proxy.trajectory.agents import identify, identity_key
from otel_agentperf_proxy.trajectory.linker import Linker
from otel_agentperf_proxy.trajectory.placement import Placement
from otel_agentperf_proxy.trajectory.state import Run
from otel_agentperf_proxy.trajectory.tools import ToolSpan

__all__ = ["Linker", "Placement", "Run", "ToolSpan", "identify", "identity_key"]
