"""From calls to trajectories: who made a call, which turn of which run it is, and which tools ran in between.

Pure: no I/O, no clock, no SDK. `agents` reads explicit identities; where there is none `rules` finds the trajectory of
a turn, `beside` that of an auxiliary call, `kinship` the parent of a sub-agent. `turns` and `runs` tell where in its
trajectory a call stands, `tools` makes tool executions of the gaps. `history` and `state` are what all look things up
in, `records` what is remembered, `memos` what outlives the process. `linker` is the door.
"""

from otel_agentperf_proxy.trajectory.agents import identify, identity_key
from otel_agentperf_proxy.trajectory.linker import Linker
from otel_agentperf_proxy.trajectory.placement import Placement
from otel_agentperf_proxy.trajectory.records import Run
from otel_agentperf_proxy.trajectory.tools import ToolSpan

__all__ = ["Linker", "Placement", "Run", "ToolSpan", "identify", "identity_key"]
