"""What the source must never hold, checked by its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path.relative_to(ROOT)
    for folder in ("src/skyloop", "callbacks", "plans")
    for path in (ROOT / folder).rglob("*.py")
    if not any(parent.is_symlink() for parent in path.parents)
)
PICKLE = {Path("src/skyloop/runtime/worker.py"), Path("src/skyloop/runtime/_child.py")}
"""Parent and child of one process pair; everything else stays on this side of the line."""
PICKLES = ("pickle", "multiprocessing.connection")
"""What these two may use: `Connection.send` and `recv` pickle, as all of multiprocessing but threads does."""
BROAD = Path("src/skyloop/runtime/guarded.py")
UNPICKLERS = {
    *("pickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "msgpack_numpy"),
    "multiprocessing",
}
SHELLS = {"system", "popen"}


def names_of(node: ast.AST) -> str:
    """`yaml.load` of the call `yaml.load(...)`."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def modules_of(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    if names_of(node).endswith("import_module") and isinstance(node, ast.Call):
        return [
            arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
        ]
    return []


def keyword(call: ast.Call, name: str) -> object:
    return next(
        (k.value.value for k in call.keywords if k.arg == name and isinstance(k.value, ast.Constant)), None
    )


def faults(tree: ast.AST, path: Path) -> Iterator[str]:
    """What is forbidden, with its line."""
    for node in ast.walk(tree):
        for fault in _faults(node, path):
            yield f"{path}:{getattr(node, 'lineno', 0)}: {fault}"


def _faults(node: ast.AST, path: Path) -> Iterator[str]:
    for module in modules_of(node):
        if _unpickles(module) and not (module.startswith(PICKLES) and path in PICKLE):
            yield f"imports {module}"
    if isinstance(node, ast.Call):
        yield from _call_faults(node, names_of(node))
    if isinstance(node, ast.ExceptHandler) and path != BROAD:
        named = ast.walk(node.type) if node.type else ()
        caught = {n.id for n in named if isinstance(n, ast.Name)} or {"everything"}
        raised_again = ast.unparse(node.body[-1]) == "raise"
        if caught & {"Exception", "BaseException", "everything"} and not raised_again:
            yield f"catches {', '.join(sorted(caught))}"
    if isinstance(node, ast.Constant) and node.value in ("0.0.0.0", "::"):
        yield "listens everywhere"


def _unpickles(module: str) -> bool:
    return module.split(".")[0] in UNPICKLERS and not module.startswith("multiprocessing.pool")


def _call_faults(node: ast.Call, name: str) -> Iterator[str]:
    last = name.rsplit(".", 1)[-1]
    if name in ("eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec"):
        yield f"calls {name}"
    if name == "print":
        yield "prints"
    if name.startswith("yaml.") and last in ("load", "load_all", "unsafe_load", "full_load"):
        yield f"calls {name}: use safe_load"
    if name == "torch.load" and keyword(node, "weights_only") is not True:
        yield "torch.load without weights_only=True"
    if last == "load" and name.split(".")[0] in ("np", "numpy") and keyword(node, "allow_pickle") is True:
        yield "np.load(allow_pickle=True)"
    if keyword(node, "shell") is True or (name.startswith("os.") and last in SHELLS):
        yield "runs a shell"
    if last == "mktemp":
        yield "mktemp"


def found_in(text: str, path: Path = Path("src/skyloop/any.py")) -> list[str]:
    return list(faults(ast.parse(text), path))


def test_there_is_something_to_check() -> None:
    assert {"analyzer", "worker", "jsonl"} <= {path.stem.strip("_") for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_the_source_holds_nothing_dangerous(path: Path) -> None:
    assert list(faults(ast.parse((ROOT / path).read_text()), path)) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import cloudpickle as c",
        "import msgpack_numpy",
        "from multiprocessing.connection import Connection",
        "from multiprocessing import connection",
        "import multiprocessing",
        "from importlib import import_module; import_module('dill')",
        "import yaml; yaml.load(text, Loader=yaml.SafeLoader)",
        "import yaml; yaml.unsafe_load(text)",
        "import torch; torch.load(path)",
        "import torch; torch.load(path, weights_only=False)",
        "import numpy as np; np.load(path, allow_pickle=True)",
        "eval(text)",
        "exec(text)",
        "print(1)",
        "try:\n    f()\nexcept Exception:\n    pass",
        "try:\n    f()\nexcept (ValueError, BaseException):\n    pass",
        "try:\n    f()\nexcept:\n    pass",
        "bind('0.0.0.0')",
        "import os; os.system('ls')",
        "import subprocess; subprocess.run('ls', shell=True)",
    ],
)
def test_the_check_finds_what_it_is_for(text: str) -> None:
    assert found_in(text)


def test_the_check_lets_pass_what_is_allowed() -> None:
    assert not found_in("import pickle", next(iter(PICKLE)))
    assert found_in("import cloudpickle", next(iter(PICKLE)))
    assert not found_in("from multiprocessing.connection import Pipe", next(iter(PICKLE)))
    assert not found_in("from multiprocessing.pool import ThreadPool")
    assert not found_in("import torch; torch.load(p, weights_only=True)")
    assert not found_in("import yaml; yaml.safe_load(t); re.compile(t)")
    assert not found_in("try:\n    f()\nexcept (ValueError, OSError):\n    pass")
    assert not found_in("try:\n    f()\nexcept BaseException:\n    tidy()\n    raise")
