"""Settings of clients on this machine: whether they lead to the proxy, with the path that each wants."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from otel_agentperf.cli.doctor.findings import Finding, note, ok, problem, warning
from otel_agentperf.cli.doctor.network import is_this_machine, same_place

__all__ = ["Setting", "clients", "judged", "settings_of"]

V1: Final = "/v1"


@dataclass(frozen=True, slots=True)
class Setting:
    """A base URL that a client is told."""

    client: str
    where: str
    """The variable, or the file and key."""
    url: str
    path: str
    """What the URL ends in, for the requests to have the right path: empty, or `/v1`."""


_VARIABLES: Final = (
    ("ANTHROPIC_BASE_URL", "Claude Code and Anthropic SDKs", ""),
    ("OPENAI_BASE_URL", "OpenAI SDKs", V1),
    ("OPENAI_API_BASE", "older OpenAI clients", V1),
    ("GOOGLE_GEMINI_BASE_URL", "gemini-cli", ""),
    ("OLLAMA_HOST", "Ollama clients", ""),
)


def clients(environment: Mapping[str, str], home: Path, here: Path, listen: tuple[str, int]) -> Iterator[Finding]:
    """What the settings of clients come to.

    Args:
        environment: the variables of this shell.
        home: the user's directory.
        here: the project's directory.
        listen: where the proxy listens.
    """
    found = list(settings_of(environment, home, here))
    for setting in found:
        yield judged(setting, listen)
    if not found:
        yield note(
            "clients",
            "no client's settings were found in this environment and directory",
            f"for example ANTHROPIC_BASE_URL=http://{_address(listen)} or OPENAI_BASE_URL=http://{_address(listen)}/v1",
        )
    yield from _detour(listen)


def settings_of(environment: Mapping[str, str], home: Path, here: Path) -> Iterator[Setting]:
    """Base URLs in variables, and in the files of Claude Code, Codex and opencode."""
    for name, client, path in _VARIABLES:
        if url := environment.get(name, "").strip():
            yield Setting(client, name, url, path)
    for file in (home / ".claude/settings.json", here / ".claude/settings.json", here / ".claude/settings.local.json"):
        if isinstance(url := _at(_json(file), "env", "ANTHROPIC_BASE_URL"), str):
            yield Setting("Claude Code", f"{file}, ANTHROPIC_BASE_URL", url, "")
    yield from _codex(Path(environment.get("CODEX_HOME") or home / ".codex") / "config.toml")
    for file in (home / ".config/opencode/opencode.json", here / "opencode.json"):
        providers = _at(_json(file), "provider")
        for name, provider in providers.items() if isinstance(providers, dict) else ():
            if isinstance(url := _at(provider, "options", "baseURL"), str):
                yield Setting("opencode", f"{file}, provider {name}", url, V1)


def _codex(file: Path) -> Iterator[Setting]:
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return
    name = told.get("model_provider")
    url = _at(told, "model_providers", name, "base_url") if isinstance(name, str) else told.get("openai_base_url")
    if isinstance(url, str):
        yield Setting("Codex", f"{file}, provider {name or 'openai'}", url, V1)


def judged(setting: Setting, listen: tuple[str, int]) -> Finding:
    """Whether a setting leads to the proxy, by the right path."""
    check = f"client {setting.client}"
    wanted = f"http://{_address(listen)}{setting.path}"
    url = setting.url if "://" in setting.url else f"http://{setting.url}"
    try:
        parts = urlsplit(url)
        place = (str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80))
    except ValueError:
        return problem(check, f"{setting.where} is no URL: {setting.url}", f"set it to {wanted}")
    if not same_place(place, listen):
        return warning(
            check, f"{setting.where} leads to {parts.netloc}, past the proxy", f"to observe it, set it to {wanted}"
        )
    path = parts.path.rstrip("/")
    if path.endswith(V1) and not setting.path:
        return problem(
            check,
            f"{setting.where} ends in /v1, which the client adds itself: requests go to /v1/v1/...",
            f"set it to {wanted}",
        )
    if setting.path and not path.endswith(setting.path):
        return problem(check, f"{setting.where} lacks {setting.path} at its end", f"set it to {wanted}")
    return ok(check, f"{setting.where} leads to the proxy")


def _detour(listen: tuple[str, int]) -> Iterator[Finding]:
    host = "127.0.0.1" if listen[0] in ("0.0.0.0", "::") else listen[0]
    proxy = getproxies().get("http")
    if proxy and is_this_machine(host) and not proxy_bypass(host):
        yield warning(
            "clients",
            f"HTTP_PROXY sends requests for {host} to {urlsplit(proxy).hostname} first",
            f"add {host} to NO_PROXY",
        )


def _address(listen: tuple[str, int]) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen[0], listen[0])
    return f"[{host}]:{listen[1]}" if ":" in host else f"{host}:{listen[1]}"


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
