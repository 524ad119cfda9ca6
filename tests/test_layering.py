"""Who may know whom: the direction of dependence that docs/architecture.md draws."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "nerfad"

BASE = {"errors", "config", "cameras", "progress"}
ALLOWED = {
    "errors": set(),
    "env": set(),
    "progress": set(),
    "config": {"errors"},
    "cameras": {"errors"},
    "_native": {"errors", "_runtime"},
    "ops": {"_native", "errors"},
    "nn": BASE | {"ops"},
    "models_store": BASE | {"io"},
    "io": BASE,
    "features": BASE | {"io", "models_store", "sample"},
    "data": BASE | {"io", "features"},
    "preprocess": BASE | {"io", "features", "data", "models_store"},
    "sample": BASE | {"io", "features", "data"},
    "metrics": BASE | {"io", "features", "data", "models_store"},
    "models": BASE | {"ops", "nn"},
    "engine": BASE | {"_native", "ops", "nn", "models", "io", "features", "data", "metrics", "models_store"},
    "bench": BASE | {"_native", "io", "ops", "nn", "models", "engine"},
    "runtime": BASE | {"_runtime"},
    "cli": None,  # may use everything
    "__main__": None,
}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
            if node.module == "nerfad":
                names = [f"nerfad.{alias.name}" for alias in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("nerfad.")}
    return rooms


def sources() -> list[Path]:
    return [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    assert room(path) in ALLOWED, f"{room(path)} has no row in ALLOWED: decide who may know it"
    allowed = ALLOWED[room(path)]
    if allowed is None:
        return
    unknown = imported_rooms(path) - allowed - {room(path), "__version__"}
    assert not unknown, f"{path.relative_to(ROOT)} may not import {sorted(unknown)}"


def test_the_package_and_its_runtime_import_without_torch():
    import subprocess
    import sys

    code = "import sys, nerfad, nerfad.env, nerfad.runtime; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def cpp_sources(*folders: str) -> list[Path]:
    found = [p for folder in folders for p in sorted((ROOT / "csrc" / folder).rglob("*")) if p.is_file()]
    assert found
    return found


@pytest.mark.parametrize(
    "path", cpp_sources("include", "cpu", "cuda", "runtime", "emu"), ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_no_torch_header_outside_the_bindings(path):
    assert not re.search(r"#include\s+[<\"](torch|ATen|c10)/", path.read_text())


@pytest.mark.parametrize(
    "path", cpp_sources("include", "cpu", "cuda"), ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_kernels_neither_print_nor_allocate_nor_throw(path):
    text = re.sub(r"//.*", "", path.read_text())
    found = re.findall(
        r"\bstd::(?:vector|cout|cerr|thread)\b|\bprintf\s*\(|\bmalloc\s*\(|\bthrow\b|\bnew\s+\w", text
    )
    assert not found, found
