"""Rules of the tree that neither the linter nor import-linter can see."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(path.name for path in (ROOT / "packages").iterdir())
COMMANDS = [package for package in PACKAGES if package != "vq-core"]

MAX_LINES = 350
HEAVY = {"torch", "diffusers", "transformers", "pydantic"}
UNPICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "shelve"}
PINNED_BY_TORCH = ("nvidia-", "cuda-")

MACHINE_PATH = re.compile(rb"(?<![\w.~-])/(?:home|root|work|Users)/\w")
DOWNLOAD_ADDRESS = re.compile(rb"https?://[^\s\"'<>)]*(?:pypi\.|pythonhosted\.|download\.pytorch\.|mirror|/resolve/)")


def project_files(pattern: str = "*") -> Iterator[Path]:
    """Files of the project whose name matches, leaving out what `.gitignore` does (in a checkout without git too)."""
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line and line[0] != "#"]

    def walk(folder: Path) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            names = (path.name, path.relative_to(ROOT).as_posix())
            if path.name == ".git" or any(fnmatch(name, rule) for name in names for rule in ignored):
                continue
            if path.is_dir():
                yield from walk(path)
            elif fnmatch(path.name, pattern):
                yield path

    return walk(ROOT)


def shown(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


def toml(path: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / path).read_text(encoding="utf-8"))


def syntax_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), path)


def import_name(package: str) -> str:
    return package.replace("-", "_")


def source(package: str) -> Path:
    return ROOT / "packages" / package / "src" / import_name(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_typed(package: str) -> None:
    assert (source(package) / "py.typed").is_file()


@pytest.mark.parametrize("package", COMMANDS)
def test_command_needs_this_vq_core_and_no_other_package_of_ours(package: str) -> None:
    version = toml("packages/vq-core/pyproject.toml")["project"]["version"]
    project = toml(f"packages/{package}/pyproject.toml")["project"]
    ours = [re.sub(r"\[.*\]", "", name) for name in project["dependencies"] if name.startswith("vq-")]
    assert ours == [f"vq-core=={version}"]
    assert project["version"] == version


@pytest.mark.parametrize("package", COMMANDS)
def test_command_answers_help_without_heavy_imports(package: str) -> None:
    names = [import_name(package) + ".cli", *sorted(HEAVY)]
    program = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*sys.modules.keys() & sys.argv[2:])"
    result = subprocess.run([sys.executable, "-c", program, *names], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_with_a_function_has_a_test_file_in_the_same_place(package: str) -> None:
    tests = ROOT / "packages" / package / "tests"
    modules = [path for path in source(package).rglob("*.py") if path.name != "__init__.py"]
    untested = [
        module
        for module in sorted(modules)
        if any(isinstance(node, ast.FunctionDef) for node in ast.walk(syntax_tree(module)))
        and not (tests / module.relative_to(source(package)).with_name(f"test_{module.name}")).is_file()
    ]
    assert shown(untested) == []


def unpickles(node: ast.AST) -> bool:
    match node:
        case ast.Import(names=names):
            return any(alias.name.split(".")[0] in UNPICKLERS for alias in names)
        case ast.ImportFrom(module=str(module)):
            return module.split(".")[0] in UNPICKLERS
        case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load"), keywords=keywords):
            return not any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in keywords)
        case ast.keyword(arg="allow_pickle", value=ast.Constant(value=True)):
            return True
    return False


def test_nothing_is_unpickled() -> None:
    guilty = [path for path in project_files("*.py") if any(map(unpickles, ast.walk(syntax_tree(path))))]
    assert shown(guilty) == []


def test_other_libraries_load_through_one_module() -> None:
    owner = source("vq-core") / "sampling" / "pretrained.py"
    callers = [
        path
        for path in project_files("*.py")
        if "tests" not in path.parts and any(loads_a_model(node) for node in ast.walk(syntax_tree(path)))
    ]
    assert shown(callers) == shown([owner])


def loads_a_model(node: ast.AST) -> bool:
    """Is this diffusers' or transformers' way in, or leave to run programs that a model brings?"""
    match node:
        case ast.Attribute(attr="from_pretrained" | "from_single_file" | "load_lora_weights"):
            return True
        case ast.keyword(arg="trust_remote_code", value=value):
            return ast.unparse(value) != "False"
    return False


def test_files_are_short() -> None:
    long = [path for path in project_files("*.py") if len(path.read_bytes().splitlines()) > MAX_LINES]
    assert shown(long) == []


@pytest.mark.parametrize("forbidden", [MACHINE_PATH, DOWNLOAD_ADDRESS], ids=["machine path", "download address"])
def test_no_file_names_a_machine_or_a_registry(forbidden: re.Pattern[bytes]) -> None:
    guilty = [path for path in project_files() if forbidden.search(path.read_bytes())]
    assert shown(guilty) == []


def test_lock_file_stays_out_of_git() -> None:
    assert "uv.lock" in (ROOT / ".gitignore").read_text().splitlines()


def test_every_resolved_version_is_pinned() -> None:
    pins = set()
    for pin in toml("pyproject.toml")["tool"]["uv"]["constraint-dependencies"]:
        name, version = pin.split(";")[0].strip().split("==")
        pins.add((name, version))
    locked = {(item["name"], item["version"]) for item in toml("uv.lock")["package"] if "registry" in item["source"]}
    assert {(name, version) for name, version in locked - pins if not name.startswith(PINNED_BY_TORCH)} == set()


def outline(page: str) -> tuple[list[int], list[str]]:
    """The levels of the headings, and the code blocks, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    fence = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    levels = [len(marks) for marks in re.findall(r"^(#+) ", fence.sub("", text), re.MULTILINE)]
    return levels, fence.findall(text)


@pytest.mark.parametrize("page", ["README", "docs/guide"])
def test_readmes_are_in_step(page: str) -> None:
    assert outline(f"{page}_zh.md") == outline(f"{page}.md")
