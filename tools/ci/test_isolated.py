"""Install each wheel alone, with nothing else of ours but what it declares, and run all of that package's tests there.

    uv run python tools/ci/test_isolated.py [package …]

Reads the wheels in `dist/`. This proves that a wheel holds every file that its package reads, and that neither the
package nor its tests use a sibling or a library that they do not declare. In the workspace, where everything is
installed, such a mistake passes. Two packages are tested at a time.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / "build" / "isolated"
# Those whose tests take longest come first, so that two workers end at about the same time.
PACKAGES = ("vq-core", "vq-eval", "vq-infer", "vq-calib", "vq-export", "vq-algos", "vq-wan-tiny")
COMMANDS = PACKAGES[1:]
AT_A_TIME = 2
TESTED_WITH_EXTRA = {"vq-core": "[pipeline]"}

NOT_IMPORTABLE = """
import importlib.util, sys
found = [name for name in sys.argv[1:] if importlib.util.find_spec(name)]
sys.exit(f"A sibling came with it: {', '.join(found)}." if found else 0)
"""


def main() -> None:
    """Test the packages named on the command line, or all seven; exit 1 where one fails."""
    test = partial(tested, uv=os.environ["UV"], constraints=write_constraints())  # UV is set by `uv run`
    packages = sys.argv[1:] or PACKAGES
    failed = []
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for package, (passed, output) in zip(packages, pool.map(test, packages), strict=True):
            print(f"\n=== {package} alone ===\n{output}", flush=True)
            failed += [] if passed else [package]
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


def tested(package: str, uv: str, constraints: Path) -> tuple[bool, str]:
    """Install `package` alone, check that no sibling came with it, start its command, and run its tests.

    Returns:
        Whether all of that passed, and what it printed.
    """
    environment = ENVIRONMENTS / package
    shutil.rmtree(environment, ignore_errors=True)
    binaries = environment / "bin"
    requirement = f"{package}{TESTED_WITH_EXTRA.get(package, '')} @ {wheel(package).as_uri()}"
    group = f"{ROOT / 'packages' / package / 'pyproject.toml'}:test"
    options = ["--quiet", "--python", f"{binaries}/python", "--constraints", f"{constraints}", "--group", group]
    siblings = [sibling.replace("-", "_") for sibling in COMMANDS if sibling != package]
    steps = [
        [uv, "venv", "--quiet", "--python", sys.executable, f"{environment}"],
        [uv, "--directory", f"{ENVIRONMENTS}", "pip", "install", *options, requirement],
        [f"{binaries}/python", "-I", "-c", NOT_IMPORTABLE, *siblings],
        *([[f"{binaries}/{package}", "--help"]] if package in COMMANDS else []),
        [f"{binaries}/pytest", f"packages/{package}/tests"],
    ]
    output = ""
    for step in steps:
        run = subprocess.run(
            step,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # two that each take every core are slower than either alone
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        output += run.stdout
        if run.returncode != 0:
            return False, output
    return True, output


if __name__ == "__main__":
    main()
