"""The wire formats that the replay speaks; one module each, behind `base.Dialect`."""

from otel_agentperf.replay.dialects.base import Dialect, OutputLimit, Prefix, PreparedTurn
from otel_agentperf.replay.dialects.chat import Chat
from otel_agentperf.replay.dialects.messages import Messages
from otel_agentperf.replay.settings import DialectName, ReplaySettings

__all__ = ["Dialect", "OutputLimit", "Prefix", "PreparedTurn", "dialect_for"]


def dialect_for(settings: ReplaySettings) -> Dialect:
    """The dialect that the settings name."""
    kinds: dict[DialectName, type[Chat] | type[Messages]] = {DialectName.CHAT: Chat, DialectName.MESSAGES: Messages}
    return kinds[settings.dialect](settings.model, settings.extra_body, settings.cache_prefix)
