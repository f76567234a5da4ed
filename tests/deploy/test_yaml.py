"""Every YAML file of deploy/ is well kept, but the chart's templates, which are no YAML before they are rendered."""

from shipped import DEPLOY
from yamllint import linter
from yamllint.config import YamlLintConfig

CONFIG = YamlLintConfig(file=str(DEPLOY / ".yamllint.yaml"))
FILES = sorted(
    path for pattern in ("*.yaml", "*.yml") for path in DEPLOY.rglob(pattern) if "templates" not in path.parts
)


def test_yamllint_finds_nothing_to_say() -> None:
    assert len(FILES) > 20
    found = [f"{path}: {problem}" for path in FILES for problem in linter.run(path.read_text(), CONFIG, str(path))]
    assert found == []
