"""The documents keep their word: every test that docs/compatibility.md names exists, and no row goes without one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "compatibility.md"
HEAD, RULE = ["trigger.dev v2", "here", "shown by"], ["---"] * 3
# What a row may say of this service, and whether it has to name a test then.
WORDS = {r"same(: .+)?": True, r"differs: .+": True, r"not here: .+": False}
NOTHING = "–"


def mistakes(page: str) -> Iterator[str]:
    """What is wrong with the tables of a page, row by row."""
    before = ""
    for number, line in enumerate(page.splitlines(), 1):
        if line.startswith("|"):
            yield from (f"line {number}: {mistake}" for mistake in _of_line(_cells(line), first=before[:1] != "|"))
        before = line


def _of_line(cells: list[str], *, first: bool) -> Iterator[str]:
    if len(cells) != len(HEAD) or not all(cells):
        yield f"not {len(HEAD)} cells with something in them"
    elif first:
        yield from [] if cells == HEAD else [f"a table has to begin with {HEAD}"]
    elif cells != RULE:
        yield from _of_row(*cells[1:])


def _cells(line: str) -> list[str]:
    inner = re.fullmatch(r"\|(.*)\|", line)
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", inner[1])] if inner else []


def _of_row(here: str, shown: str) -> Iterator[str]:
    needed = [needs for word, needs in WORDS.items() if re.fullmatch(word, here)]
    names = re.findall(r"`([^`]+)`", shown)
    if not needed:
        yield f"{here!r} is none of same, differs with its reason, not here with its reason"
    elif needed[0] and not names:
        yield "it names no test"
    elif not needed[0] and shown != NOTHING:
        yield "what is not here needs no test"
    if names and shown != ", ".join(f"`{name}`" for name in names):
        yield "tests stand in code marks, with commas between them"
    yield from (f"there is no {name}" for name in names if not _is_test(name))


def _is_test(name: str) -> bool:
    path, _, test = name.partition("::")
    return test in _tests(path)


@cache
def _tests(path: str) -> frozenset[str]:
    """The tests of a file: functions by their names, methods as `Class::name`."""
    file = ROOT / path
    if not (path.startswith("tests/") and file.is_file()):
        return frozenset()
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        before = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {f"{before}{one.name}" for one in inside if isinstance(one, ast.FunctionDef)}
    return frozenset(name for name in found if name.rpartition("::")[2].startswith("test_"))


HERE = "tests/unit/test_documents.py"
TOP = "| trigger.dev v2 | here | shown by |\n| --- | --- | --- |\n"


def test_every_row_says_what_is_here_and_names_tests_that_exist() -> None:
    assert list(mistakes(PAGE.read_text(encoding="utf-8"))) == []


def test_the_page_has_rows_and_every_section_some() -> None:
    sections = PAGE.read_text(encoding="utf-8").split("\n## ")[1:]

    assert len(sections) > 10
    assert [section.partition("\n")[0] for section in sections if TOP not in section] == []


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("| a | same | – |", "it names no test"),
        ("| a | differs: b | – |", "it names no test"),
        ("| a | differs | – |", "'differs' is none of"),
        ("| a | perhaps | – |", "'perhaps' is none of"),
        ("| a | not here | – |", "'not here' is none of"),
        ("| a | not here: b | `tests/x.py::test_a` |", "needs no test"),
        ("| a | same | `tests/unit/test_nowhere.py::test_a` |", "there is no tests/unit/test_nowhere.py::test_a"),
        (f"| a | same | `{HERE}::test_nothing` |", "there is no"),
        (f"| a | same | `{HERE}::TestNo::test_every_row` |", "there is no"),
        (f"| a | same | `{HERE}::mistakes` |", "there is no"),
        (f"| a | same | {HERE}::test_a |", "it names no test"),
        (
            f"| a | same | `{HERE}::test_the_page_has_rows_and_every_section_some` and more |",
            "with commas between them",
        ),
        ("| a | same |", "not 3 cells"),
        ("| a | b | same | – |", "not 3 cells"),
        ("|  | same | – |", "not 3 cells"),
        ("| a | same | –", "not 3 cells"),
    ],
)
def test_a_row_that_is_wrong_is_found(row: str, said: str) -> None:
    [mistake] = [one for one in mistakes(TOP + row) if said in one]

    assert mistake.startswith("line 3: ")


def test_a_row_that_is_right_is_left_alone() -> None:
    row = rf"| a \| b | differs: c | `{HERE}::test_the_page_has_rows_and_every_section_some` |"

    assert list(mistakes(f"{TOP}{row}\n| d | not here: e | – |")) == []


def test_a_table_without_its_head_is_found() -> None:
    assert list(mistakes("| a | same | – |")) == [f"line 1: a table has to begin with {HEAD}"]


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_leads_to_the_page() -> None:
    assert "](docs/compatibility.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
