"""An inference endpoint without a model: OpenAI chat and Anthropic messages over a believable model of serving.

It knows no other part of this project: it stands where vLLM or SGLang would stand.
"""

from otel_agentperf.simulate.app import create_app
from otel_agentperf.simulate.config import SimulateConfig
from otel_agentperf.simulate.engine import Engine, Generation, Step
from otel_agentperf.simulate.server import serve
from otel_agentperf.simulate.truth import Truth, TruthLog

__all__ = ["Engine", "Generation", "SimulateConfig", "Step", "Truth", "TruthLog", "create_app", "serve"]
