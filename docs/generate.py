"""Writes docs/reference/ from the code, so that it cannot say anything else.

python docs/generate.py            write the pages that are out of date
python docs/generate.py --check    only say which these are
"""

import argparse
import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from enum import Enum
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import typer

from otel_agentperf import instruments, policies, semconv
from otel_agentperf.cli.main import app
from otel_agentperf_analyzers import catalog
from otel_agentperf_proxy.config import MIB, ProxyConfig, UpstreamConfig

REFERENCE: Final = Path(__file__).parent / "reference"

NOTICE: Final = "<!-- Written by docs/generate.py. Change the code, then run it again. -->\n"


def main() -> int:
    """Write or check all pages; returns the exit status."""
    parser = argparse.ArgumentParser(description="Write docs/reference/ from the code.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a page is out of date")
    check = parser.parse_args().check
    stale = []
    for name, page in pages().items():
        path = REFERENCE / name
        if not path.exists() or path.read_text(encoding="utf-8") != page:
            stale.append(name)
            if not check:
                path.write_text(page, encoding="utf-8")
    extra = sorted(path.name for path in REFERENCE.glob("*.md") if path.name not in PAGES)
    if check and (stale or extra):
        names = ", ".join(stale + extra)
        sys.stderr.write(f"docs/reference is out of date ({names}): run `python docs/generate.py`\n")
        return 1
    return 0


def pages() -> dict[str, str]:
    """File name to text."""
    return {name: f"{NOTICE}\n{make().rstrip()}\n" for name, make in PAGES.items()}


# --- Spans


def spans() -> str:
    """The vocabulary, section by section as in the module."""
    text = Path(semconv.__file__).read_text(encoding="utf-8")
    tree = ast.parse(text)
    out = ["# Spans and their attributes", "", _reflow(ast.get_docstring(tree) or ""), ""]
    headings = [
        (number, match[1])
        for number, line in enumerate(text.splitlines(), 1)
        if (match := re.match(r"# --- (.+?) -+$", line))
    ]
    for at, (number, title) in enumerate(headings):
        until = headings[at + 1][0] if at + 1 < len(headings) else sys.maxsize
        body = [node for node in tree.body if number < node.lineno < until]
        rows = [(name, documented) for name, documented in _constants(body) if not isinstance(name, dict)]
        out += [f"## {title}", "", "| Name | Meaning |", "|---|---|"]
        out += [f"| `{name}` | {_cell(text)} |" for name, text in rows]
        out += [""]
        for node in body:
            if isinstance(node, ast.ClassDef):
                out += [f"### {(ast.get_docstring(node) or '').rstrip('.')}", "", "| Value | Meaning |", "|---|---|"]
                out += [f"| `{value}` | {_cell(text)} |" for value, text in _constants(node.body)]
                out += [""]
    out += ["## Tags and the attributes they become", "", "| Tag | Attribute |", "|---|---|"]
    out += [f"| `{tag}` | `{attribute}` |" for tag, attribute in semconv.LAUNCHER_TAGS.items()]
    return "\n".join(out)


def _constants(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Value and docstring of each text constant."""
    for node, following in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.value, ast.Constant):
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            yield str(node.value.value), inspect.cleandoc(str(following.value.value))


# --- Command line


def _commands(group: Any) -> Iterator[tuple[str, Any]]:
    """Commands by their names; those of a group by both names."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from ((f"{name} {inner}", one) for inner, one in _commands(command))
        else:
            yield name, command


def command_line() -> str:
    """Every command with its arguments and options."""
    group: Any = typer.main.get_command(app)
    out = ["# Command line", "", app.info.help or "", ""]
    out += ["| Command | |", "|---|---|"]
    commands = list(_commands(group))
    out += [
        f"| [`{name}`](#{name.replace(' ', '-')}) | {_cell(_paragraphs(command)[0])} |" for name, command in commands
    ]
    for name, command in commands:
        shown = [option for option in command.params if not option.hidden and option.name != "help"]
        arguments = [option for option in shown if option.param_type_name == "argument"]
        options = [option for option in shown if option.param_type_name == "option"]
        usage = " ".join(
            [f"otel-agentperf {name}"]
            + [_name(each) if each.required else f"[{_name(each)}]" for each in arguments]
            + (["[OPTIONS]"] if options else [])
        )
        out += ["", f"## {name}", "", "```console", f"$ {usage}", "```", "", "\n\n".join(_help(command))]
        choices = _choices(command.callback)
        if arguments:
            out += ["", "| Argument | |", "|---|---|"]
            out += [f"| `{_name(each)}` | {_cell(each.help or '')} |" for each in arguments]
        if options:
            out += ["", "| Option | |", "|---|---|"]
            out += [f"| {_option(each, choices)} | {_cell(_told(each))} |" for each in options]
    return "\n".join(out)


def _paragraphs(command: Any) -> list[str]:
    return [" ".join(part.split()) for part in inspect.cleandoc(command.help or "").split("\n\n")]


def _help(command: Any) -> Iterator[str]:
    """The help text; indented blocks are examples."""
    for part in re.split(r"\n\n+(?=\S)|\n\n+(?=    \S)", inspect.cleandoc(command.help or "").replace("\b", "")):
        if part.startswith("    "):
            yield f"```sh\n{textwrap.dedent(part).strip()}\n```"
        else:
            yield " ".join(part.split())


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _option(option: Any, choices: dict[str, str]) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    if option.is_flag:
        return names
    value = option.metavar or choices.get(option.name) or "VALUE"
    return f"{names} `{value}`".replace("|", "\\|")


def _told(option: Any) -> str:
    default = option.default.value if isinstance(option.default, Enum) else option.default
    text = option.help or ""
    if option.required:
        return f"{text} Required."
    if default is None or default is False or option.show_default is not True or "efault: " in text:
        return text
    return f"{text} Default: `{default}`."


def _choices(callback: Callable[..., Any]) -> dict[str, str]:
    """Parameter name to its allowed values, for those that have a closed set or a plain type."""
    found = {}
    for name, hint in get_type_hints(callback).items():
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, Enum):
                found[name] = "|".join(str(value.value) for value in kind)
            elif kind in (int, float):
                found[name] = "N"
            elif kind is Path:
                found[name] = "PATH"
    return found


# --- Configuration


def configuration() -> str:
    """Keys of the proxy's TOML file."""
    out = [
        "# Configuration of the proxy",
        "",
        "Keys of the TOML file that `otel-agentperf proxy --config FILE` reads, and of `ProxyConfig` for applications "
        "that mount the proxy. `-` and `_` are the same in a file. Each key is also a variable, as "
        "`OTEL_AGENTPERF_WORKERS` (`OTEL_AGENTPERF_UPSTREAMS` is JSON, lists of words have commas), and "
        "`OTEL_AGENTPERF_CONFIG` names the file. "
        "Options win over variables, variables over the file. `otel-agentperf proxy --check-config` prints what is in "
        "effect.",
        "",
        *_keys(ProxyConfig),
        "",
        "## Upstreams by host or path",
        "",
        "Tables `[[upstreams]]`. The first one whose `host` and `path` a request has gets it; else `upstream` does. "
        "Without that, what no table takes is answered 421 when its host is in none of them, else 404; nothing is "
        "forwarded to where a client says.",
        "",
        "```toml",
        'upstream = "http://127.0.0.1:8000"',
        "",
        "[[upstreams]]",
        'path = "/anthropic"',
        "strip_path = true",
        'url = "https://api.anthropic.com"',
        "```",
        "",
        *_keys(UpstreamConfig),
    ]
    return "\n".join(out)


def _keys(struct: type[msgspec.Struct]) -> list[str]:
    """The fields of a struct with what is said below them, as a table."""
    out = ["| Key | Type | Default | Meaning |", "|---|---|---|---|"]
    source = textwrap.dedent(inspect.getsource(struct))
    [declared] = ast.parse(source).body
    assert isinstance(declared, ast.ClassDef)
    documented = {
        node.target.id: inspect.cleandoc(str(following.value.value))
        for node, following in zip(declared.body, declared.body[1:], strict=False)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(following, ast.Expr)
        and isinstance(following.value, ast.Constant)
    }
    for field in msgspec.structs.fields(struct):
        default = "required" if field.required else f"`{_shown(field.default)}`"
        out.append(f"| `{field.name}` | {_type(field.type)} | {default} | {_cell(documented[field.name])} |")
    return out


def _shown(value: object) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value >= MIB and value % MIB == 0:
        return f"{value} ({value // MIB} MiB)"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _type(hint: Any) -> str:
    names = {str: "string", int: "integer", float: "number", bool: "boolean"}
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_type(kind) for kind in get_args(hint) if kind is not type(None))
    if hint in names:
        return names[hint]
    if get_origin(hint) is tuple:
        of = get_args(hint)[0]
        return "strings" if of is str else f"list of {_type(of)}" if get_origin(of) is Literal else "tables"
    return " or ".join(f'`"{value}"`' for value in get_args(hint))


# --- Metrics and relations


def metrics() -> str:
    """The catalogue of metrics."""
    out = [
        "# Metrics",
        "",
        "Each metric is a column of a [relation](relations.md). What cannot be computed is NULL, never 0. "
        "`otel-agentperf metrics` prints the same catalogue.",
    ]
    for metric in catalog.metrics():
        out += [
            "",
            f"## {metric.name}",
            "",
            metric.definition,
            "",
            "| | |",
            "|---|---|",
            f"| Formula | {_cell(metric.formula)} |",
            f"| Unit | {_cell(metric.unit)} |",
            f"| Grain | {_cell(metric.grain)} |",
            f"| Column | `{metric.relation}.{metric.column}` |",
            f"| Requires | {_cell(metric.requires)} |",
            f"| Source | {_cell(metric.source)} |",
        ]
    return "\n".join(out)


def relations() -> str:
    """The documented relations."""
    out = [
        "# Relations",
        "",
        'What `otel-agentperf query "SQL"` and `Database.query` can read. Names and types are stable; times are '
        "`TIMESTAMPTZ`, units are in the names.",
        "",
        "| Relation | Grain |",
        "|---|---|",
    ]
    found = sorted(catalog.relations(), key=lambda relation: relation.name)
    out += [f"| [`{each.name}`](#{each.name}) | {_cell(each.grain)} |" for each in found]
    for each in found:
        out += ["", f"## {each.name}", "", f"{each.description} {_sentence(each.grain)}"]
        if each.requires:
            out += ["", f"Requires: {each.requires}"]
        out += ["", "| Column | Type | Unit | Meaning |", "|---|---|---|---|"]
        out += [
            f"| `{_plain(column.name)}` | {column.type} | {column.unit or ''} | {_cell(column.description)} |"
            for column in each.columns
        ]
    return "\n".join(out)


def _plain(name: str) -> str:
    return name.strip('"')


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}."


# --- Metrics of a running proxy


def telemetry() -> str:
    """The instruments."""
    out = ["# Metrics of a running proxy", "", _reflow(inspect.getdoc(instruments) or "")]
    text = Path(instruments.__file__).read_text(encoding="utf-8")
    headings = [(text.index(match[0]), match[1]) for match in re.finditer(r"^# --- (.+)$", text, re.MULTILINE)]
    for each in instruments.instruments():
        at = text.index(f'name="{each.name}"')
        while headings and headings[0][0] < at:
            title = headings.pop(0)[1]
            if not headings or headings[0][0] > at:
                out += ["", f"## {title}"]
        out += ["", f"### {each.name}", "", each.description, "", "| | |", "|---|---|"]
        suffix = " (`_bucket`, `_sum`, `_count`)" if each.kind is instruments.Kind.HISTOGRAM else ""
        out += [f"| Prometheus | `{each.prometheus_name}`{suffix} |"]
        out += [f"| Type | {each.kind}{f', unit `{each.unit}`' if each.unit else ''} |"]
        if each.generation is not instruments.Generation.BOTH:
            out += [f"| Generation | {each.generation} |"]
        if each.attributes:
            labels = ", ".join(f"`{instruments.prometheus_label(name)}`" for name in each.attributes)
            out += [f"| Attributes | {', '.join(f'`{name}`' for name in each.attributes)} |", f"| Labels | {labels} |"]
        if each.buckets:
            out += [f"| Buckets | {', '.join(f'{bound:.12g}' for bound in each.buckets)} |"]
    out += ["", "## Limits of attributes", "", "| Attribute | Values |", "|---|---|"]
    out += [f"| `{name}` | {limit} |" for name, limit in instruments.LIMITS.items()]
    out += [f"| all of an instrument together | {instruments.MAX_SERIES} |"]
    return "\n".join(out)


# --- SLO policies


def slo() -> str:
    """The presets of targets."""
    out = [
        "# SLO policies",
        "",
        inspect.getdoc(policies) or "",
        "",
        "## Presets",
        "",
        "A level meets a tier when all its percentiles hold, the error rate is within bounds and the level is valid. "
        "The population of a level is the turns whose t0 lies in its steady window, of live traffic all turns; "
        "auxiliary calls are in neither. Failed turns are in no percentile: the error rate bounds them. Percentiles "
        "interpolate linearly at rank (n - 1)p. Turns whose tokens are an estimate have no speed here, unless the "
        "policy says `use_estimated_tokens`.",
        "",
        "| Tier | Models | Targets | Errors | A valid level has |",
        "|---|---|---|---|---|",
    ]
    for tier in policies.load_presets():
        targets = ", ".join(str(target) for target in tier.targets)
        valid = (
            f"{tier.min_trajectories} trajectories, {tier.min_trajectories_per_agent:g} per agent, "
            f"{tier.min_steady_s:g} s steady after {tier.min_hold_s:g} s at full concurrency"
        )
        models = ", ".join(f"`{model}`" for model in tier.models)
        out.append(f"| `{tier.label}` | {models} | {targets} | ≤ {tier.max_error_rate:.3g} | {valid} |")
    out += [
        "",
        "## A file of your own",
        "",
        "The same form as the presets; all keys but the names may be left out.",
        "",
    ]
    text = (files("otel_agentperf") / "policies.toml").read_text("utf-8")
    rules = [line.removeprefix("#").removeprefix(" ") for line in text.split("[[policy]]")[0].strip().splitlines()]
    out += ["```text", *rules[rules.index("") + 1 :], "```"]
    return "\n".join(out)


# --- Text


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _reflow(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


PAGES: Final[dict[str, Callable[[], str]]] = {
    "cli.md": command_line,
    "configuration.md": configuration,
    "metrics.md": metrics,
    "relations.md": relations,
    "slo.md": slo,
    "spans.md": spans,
    "telemetry.md": telemetry,
}

if __name__ == "__main__":
    sys.exit(main())
