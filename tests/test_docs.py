"""What the pages say holds: code runs or can be imported, links lead somewhere, quoted messages are real."""

from __future__ import annotations

import ast
import importlib.util
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(
    r"(?P<mark><!-- runs -->\n+)?^(?P<in>[ ]*)```python\n(?P<code>.*?)^(?P=in)```", re.M | re.S
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"(?<![\w/.<>*-])((?:src|callbacks|plans|tests|examples|docs|benchmarks)/[\w/.-]*\w/?)")
QUOTED = re.compile(r"`([^`]+)`")
COMMAND = re.compile(r"(?:^ {4}|`|^)skyloop ([a-z].*?)(?:`|#|$)", re.M)
SOURCES = ("src/skyloop", "callbacks", "plans")


def label(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks() -> Iterator[tuple[str, str, bool]]:
    for page in PAGES:
        for number, found in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8")), start=1):
            yield f"{label(page)} {number}", dedent(found["code"]), bool(found["mark"])


BLOCKS = list(blocks())


def scripts() -> dict[str, str]:
    """The marked blocks of each page, one after the other: a later one goes on from those before."""
    marked: dict[str, str] = {}
    for name, code, runs in BLOCKS:
        if runs:
            page = name.rpartition(" ")[0]
            marked[page] = marked.get(page, "") + code
    return marked


RUNNABLE = list(scripts().items())
TOLD = {
    "docs/tutorials/first-loop.md": ("reflectometry_confirmed", " True |", "target_reached"),
    "docs/how-to/read-results.md": ("] angstrom", "would have stopped after", ": target_reached"),
}


# ---------------------------------------------------------------- code


def test_there_is_code_to_run():
    assert len(RUNNABLE) >= 3
    assert len(BLOCKS) >= 8


def test_there_are_links_names_and_commands_to_look_up():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert all(len(kind.findall(text)) >= 10 for kind in (LINK, NAMED, COMMAND))


@pytest.mark.parametrize(("name", "code"), [(n, c) for n, c, _ in BLOCKS], ids=[n for n, *_ in BLOCKS])
def test_code_compiles_and_its_imports_are_there(name: str, code: str):
    for node in ast.walk(ast.parse(code, name)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                assert find(alias.name), f"{name}: no module {alias.name}"
        if isinstance(node, ast.ImportFrom):
            module = str(node.module)
            assert find(module), f"{name}: no module {module}"
            if module.startswith("skyloop"):
                missing = [a.name for a in node.names if not hasattr(import_module(module), a.name)]
                assert not missing, f"{name}: {module} has no {missing}"


def find(module: str) -> bool:
    of_examples = ROOT / "examples" / f"{module}.py"
    return of_examples.is_file() or importlib.util.find_spec(module) is not None


@pytest.mark.parametrize(("name", "code"), RUNNABLE, ids=[name for name, _ in RUNNABLE])
def test_code_that_is_marked_runs(name: str, code: str, tmp_path: Path):
    script = tmp_path / "page.py"
    # the engine runs in a process of its own, and that process imports nothing from the script
    script.write_text(code, encoding="utf-8")
    places = [str(ROOT / "examples"), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    code_of_end, said = at_a_terminal(script, os.environ | {"PYTHONPATH": os.pathsep.join(places)})
    assert code_of_end == 0, f"{name}\n{said[-4000:]}"
    assert "'target':" in said
    assert not [words for words in TOLD.get(name, ()) if words not in said]


def at_a_terminal(script: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Exit code and output of a script, with a person at its terminal who says yes to each question."""
    person, terminal = pty.openpty()
    said: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-u", str(script)],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd=script.parent,
        text=True,
    ) as process:
        patience = threading.Timer(100, process.kill)
        patience.start()
        for line in process.stdout or ():
            said.append(line)
            if "[y: accept" in line:
                os.write(person, b"y\n")
        patience.cancel()
    for end in (person, terminal):
        os.close(end)
    return process.returncode, "".join(said)


# ---------------------------------------------------------------- links and names


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_every_relative_link_leads_to_something(page: Path):
    text = page.read_text(encoding="utf-8")
    for target in LINK.findall(text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{label(page)}: {target}"
        if anchor:
            assert anchor in anchors(there), f"{label(page)}: {target}"


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_no_page_names_a_file_that_is_not_there(page: Path):
    text = re.sub(r"https?://\S+", "", page.read_text(encoding="utf-8"))
    named = {name for name in NAMED.findall(text) if "NNNN" not in name}
    missing = {name for name in named if not (ROOT / name).exists()}
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_every_command_and_option_on_a_page_exists(page: Path):
    from typer.main import get_command

    from skyloop.cli._app import app

    commands = get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    for line in COMMAND.findall(page.read_text("utf-8")):
        word, *rest = line.split()
        assert word in commands, f"{label(page)}: skyloop {line}"
        known = {option for parameter in commands[word].params for option in parameter.opts}
        options = {re.sub(r"=.*", "", part) for part in rest if part.startswith("--")}
        assert options <= known, f"{label(page)}: skyloop {line}"


def test_every_page_can_be_reached():
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if not target.startswith("http")
    }
    folders = {path for path in linked if path.is_dir()}
    lost = [
        label(page)
        for page in PAGES
        if page.name not in ("README.md", "template.md")
        and page.parent != ROOT / "docs"
        and page.resolve() not in linked
        and page.parent.resolve() not in folders
    ]
    assert not lost


# ---------------------------------------------------------------- what is derived


def test_the_reference_of_documents_is_in_step():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/reference/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run python docs/reference/generate.py"


@cache
def texts() -> tuple[str, ...]:
    """Every string in the sources, with `...` for what is filled in."""
    found: list[str] = []
    for file in (file for folder in SOURCES for file in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                values = (v.value if isinstance(v, ast.Constant) else "..." for v in node.values)
                found.append("".join(map(str, values)))
    return tuple(" ".join(text.split()) for text in found)


def is_told(quoted: str) -> bool:
    """Whether some message holds the pieces between the dots."""
    pieces = [piece.strip() for piece in quoted.split("...") if len(piece.strip()) > 3]
    return bool(pieces) and all(any(piece in text for text in texts()) for piece in pieces)


def quoted_messages() -> list[str]:
    page = (ROOT / "docs/how-to/troubleshooting.md").read_text(encoding="utf-8")
    rows = [row.strip("|").split("|") for row in page.splitlines() if row.startswith("| ")]
    first = [cells[1 if cells[0].strip() in KINDS else 0] for cells in rows]
    return [quoted for cell in first for quoted in QUOTED.findall(cell)]


KINDS = ("degraded", "rejected", "failed", "timeout", "superseded", "fault", "reason", "guard_rule", "answer")
NOT_OURS = {"ValueError: ...", "health.documents", "counts", "reflectivity", "primary"}


def test_messages_in_troubleshooting_are_those_of_the_program():
    quoted = [text for text in quoted_messages() if text not in NOT_OURS]
    assert len(quoted) > 40
    assert not [text for text in quoted if not is_told(text)]


def test_troubleshooting_tells_every_fault_rule_and_reason():
    from skyloop.plans import _guard, _settle, _watch

    page = (ROOT / "docs/how-to/troubleshooting.md").read_text(encoding="utf-8")
    words = {*_guard.PLAIN_RULES, _settle.REFUSED, _settle.REFUSED_AGAIN, _settle.REFUSED_BEFORE}
    words |= {_watch.LATE, _watch.LOST, _watch.SILENT, _watch.UNHEARD}
    source = Path(_guard.__file__).read_text(encoding="utf-8")
    words |= set(re.findall(r'Verdict\(\s*"(\w+)"', source))
    assert words <= set(QUOTED.findall(page))


def test_troubleshooting_tells_every_doubt_of_an_engine():
    page = " ".join((ROOT / "docs/how-to/troubleshooting.md").read_text(encoding="utf-8").split())
    verdict = ROOT / "src/skyloop/engines/reflectometry/verdict.py"
    told = [
        node for node in ast.walk(ast.parse(verdict.read_text("utf-8"))) if isinstance(node, ast.JoinedStr)
    ]
    longest = [max((str(v.value) for v in t.values if isinstance(v, ast.Constant)), key=len) for t in told]
    doubts = [" ".join(text.split()) for text in longest if len(text) > 10]  # the rest are formats of numbers
    assert len(doubts) >= 5
    assert not [text for text in doubts if text[:20] not in page]
