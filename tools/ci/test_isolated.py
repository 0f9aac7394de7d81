"""Install each wheel alone, with nothing else of ours but what it declares, and run that package's tests there.

    uv run python tools/ci/test_isolated.py [package …]

Reads the wheels in `dist/`. A package that uses a sibling, or a library that it does not declare, fails here
and nowhere else: in the workspace everything is installed.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / "build" / "isolated"
PACKAGES = ("vq-core", "vq-calib", "vq-algos", "vq-export", "vq-eval", "vq-infer", "vq-wan-tiny")
COMMANDS = PACKAGES[1:]
TESTED_WITH_EXTRA = {"vq-core": "[pipeline]"}

NOT_IMPORTABLE = """
import importlib.util, sys
found = [name for name in sys.argv[1:] if importlib.util.find_spec(name)]
sys.exit(f"A sibling came with it: {', '.join(found)}." if found else 0)
"""


def main() -> None:
    """Test the packages named on the command line, or all seven; exit 1 where one fails."""
    uv = os.environ["UV"]  # set by `uv run`
    packages = sys.argv[1:] or PACKAGES
    constraints = write_constraints()
    failed = [package for package in packages if not passes(package, uv, constraints)]
    if failed:
        sys.exit(f"Failed alone: {', '.join(failed)}.")
    print(f"Passed alone: {', '.join(packages)}.")


def write_constraints() -> Path:
    """The workspace's pins, and our own wheels by path, so that an index is never asked for a sibling."""
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["constraint-dependencies"]
    siblings = [f"{package} @ {wheel(package).as_uri()}" for package in PACKAGES]
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    path = ENVIRONMENTS / "constraints.txt"
    path.write_text("\n".join([*pins, *siblings, ""]))
    return path


def wheel(package: str) -> Path:
    """The one wheel of `package` in `dist/`."""
    (path,) = (ROOT / "dist").glob(f"{package.replace('-', '_')}-*.whl")
    return path


def passes(package: str, uv: str, constraints: Path) -> bool:
    """Whether `package` installs alone, sees no sibling, starts its command and passes its tests."""
    print(f"\n=== {package} alone ===", flush=True)
    environment = ENVIRONMENTS / package
    shutil.rmtree(environment, ignore_errors=True)
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    binaries = environment / "bin"
    requirement = f"{package}{TESTED_WITH_EXTRA.get(package, '')} @ {wheel(package).as_uri()}"
    group = f"{ROOT / 'packages' / package / 'pyproject.toml'}:test"
    options = ["--quiet", "--python", f"{binaries}/python", "--constraints", f"{constraints}", "--group", group]
    subprocess.run([uv, "pip", "install", *options, requirement], check=True, cwd=ENVIRONMENTS)

    siblings = [sibling.replace("-", "_") for sibling in COMMANDS if sibling != package]
    checks = [[f"{binaries}/python", "-I", "-c", NOT_IMPORTABLE, *siblings]]
    if package in COMMANDS:
        checks.append([f"{binaries}/{package}", "--help"])
    checks.append([f"{binaries}/pytest", f"packages/{package}/tests"])
    return all(subprocess.run(check, cwd=ROOT, check=False).returncode == 0 for check in checks)


if __name__ == "__main__":
    main()
