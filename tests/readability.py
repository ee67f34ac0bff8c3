"""How densely the code is written: `python tests/readability.py [FILE or FOLDER ...]`.

Length is no measure of how hard a file is to read; how much a statement does is. Counted on the
syntax tree, per 1000 lines of code (docstrings, comments and blank lines apart): conditional
expressions, comprehensions, unrelated assignments in one line, expressions nine or more deep. The
ceilings are held by tests/test_structure.py.
"""

from __future__ import annotations

__all__ = ["CEILINGS", "Counts", "measure", "sources"]

import ast
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

TOP = Path(__file__).parents[1]
FOLDERS = ("ppl_gen", "models", "inference")

# Per 1000 lines of code; zuko, a library that reads well, has 3.6, 14.9, 2.5 and 1.5.
CEILINGS = {"conditionals": 9.0, "comprehensions": 24.0, "assignments": 3.0, "deep": 1.0}

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_DEEP = 9
_WIDE = 100
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


@dataclass
class Counts:
    """What was counted in some files.

    Attributes:
        code: Lines of code.
        conditionals: `a if b else c`.
        comprehensions: Of lists, sets, dicts and generators.
        assignments: `a, b = x, y`.
        deep: Expressions of which nine or more stand in each other.
        wide: Lines over 100 columns.
        elsewhere: Docstrings that send the reader elsewhere: "As in `".
    """

    code: int = 0
    conditionals: int = 0
    comprehensions: int = 0
    assignments: int = 0
    deep: int = 0
    wide: int = 0
    elsewhere: int = 0

    def __add__(self, other: Counts) -> Counts:
        pairs = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        return Counts(**pairs)

    def per_thousand(self) -> dict[str, float]:
        """The counts that have a ceiling, per 1000 lines of code."""
        return {name: 1000 * getattr(self, name) / max(self.code, 1) for name in CEILINGS}


def sources(*places: Path) -> list[Path]:
    """The Python files in places; those of the library if none are named."""
    places = places or tuple(TOP / folder for folder in FOLDERS)
    found: list[Path] = []
    for place in places:
        if place.is_file():
            found.append(place)
        else:
            found.extend(sorted(place.rglob("*.py")))
    return found


def measure(path: Path) -> Counts:
    """The counts of one file."""
    text = path.read_text(encoding="utf8")
    tree = ast.parse(text)
    found = Counts(
        code=len(_code_lines(path, tree)),
        deep=sum(_depth(expression) >= _DEEP for expression in _outermost(tree)),
        wide=sum(len(line) > _WIDE for line in text.splitlines()),
        elsewhere=sum(doc.value.value.count("As in `") for doc in _docstrings(tree)),
    )
    for node in ast.walk(tree):
        found.conditionals += isinstance(node, ast.IfExp)
        found.comprehensions += isinstance(node, _COMPREHENSIONS)
        found.assignments += _assigns_two(node)
    return found


def _assigns_two(node: ast.AST) -> bool:
    if not isinstance(node, ast.Assign):
        return False
    return isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)


def _docstrings(tree: ast.Module) -> Iterator[ast.Expr]:
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            yield node.body[0]  # type: ignore[misc]


def _code_lines(path: Path, tree: ast.Module) -> set[int]:
    lines: set[int] = set()
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type not in _NO_CODE:
                lines.update(range(token.start[0], token.end[0] + 1))
    for doc in _docstrings(tree):
        lines.difference_update(range(doc.lineno, (doc.end_lineno or doc.lineno) + 1))
    return lines


def _depth(node: ast.AST) -> int:
    """How many expressions stand in each other, the outermost one counted."""
    inner = max(map(_depth, ast.iter_child_nodes(node)), default=0)
    return inner + isinstance(node, ast.expr)


def _outermost(node: ast.AST) -> Iterator[ast.expr]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield child
        else:
            yield from _outermost(child)


def main() -> None:
    """Prints the counts of each file, the densest first, and the rates of all together."""
    counts = {path: measure(path) for path in sources(*map(Path, sys.argv[1:]))}

    def density(path: Path) -> int:
        c = counts[path]
        return c.conditionals + c.comprehensions + 3 * c.assignments + 3 * c.deep

    for path in sorted(counts, key=density, reverse=True):
        values = [f"{f.name} {getattr(counts[path], f.name)}" for f in fields(Counts)]
        print(f"{path}: {', '.join(values)}")
    total = sum(counts.values(), Counts())
    print(f"all, {total.code} lines of code, {total.wide} lines over {_WIDE} columns")
    for name, rate in total.per_thousand().items():
        print(f"  {name}: {rate:.1f} per 1000 lines, at most {CEILINGS[name]:g}")


if __name__ == "__main__":
    main()
