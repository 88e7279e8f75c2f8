"""Read a text as Python, within bounds, into a syntax tree: nothing of it is run or compiled.

Python's own parser can be made to work for very long, or to run out of stack, by deep nesting. So
the text is measured before it is parsed, and the tree before anybody walks it.
"""

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

READS = 2000  # characters of a text that are read; a longer one is refused
MOST_TOKENS = 400
MOST_DEPTH = 30  # of the tree
MOST_BRACKETS = 10  # inside one another
MOST_PREFIXES = 10  # such as "not not not" or "---" or "lambda: lambda:"

Node = TypeVar("Node", bound=ast.AST)
_TOKEN = re.compile(r"\w+|[^\w\s]")
_PREFIXES = re.compile(rf"(?:(?:\bnot\b|\blambda\b|\bawait\b|[-+~*:])\s*){{{MOST_PREFIXES + 1}}}")


@dataclass(frozen=True, eq=False)
class Code:
    """A text with its tree, and all nodes of the tree."""

    text: str
    tree: ast.Module
    nodes: list[ast.AST]

    def all(self, *kinds: type[Node]) -> Iterator[Node]:
        """The nodes of these kinds."""
        for node in self.nodes:
            if isinstance(node, kinds):
                yield node

    @cached_property
    def arguments(self) -> set[str]:
        """The names of all arguments of its functions."""
        return {node.arg for node in self.all(ast.arg)}


class CodeError(Exception):
    """Why a text is not run, in plain words."""


def parse(text: str) -> Code:
    """A text of Python. Raises CodeError if it is none, or is too large or too deep."""
    if len(text) > READS:
        raise CodeError("is too long to read")
    if len(_TOKEN.findall(text)) > MOST_TOKENS or _PREFIXES.search(text):
        raise CodeError("is too long to read")
    if _brackets(text) > MOST_BRACKETS:
        raise CodeError("is nested too deeply")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError) as error:
        raise CodeError("is not Python") from error
    return Code(text, tree, _nodes(tree))


def _brackets(text: str) -> int:
    """How many brackets stand open at once, at most (those in strings count too)."""
    depth = most = 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}" and depth > 0)
        most = max(most, depth)
    return most


def _nodes(tree: ast.AST) -> list[ast.AST]:
    """All nodes of a tree, found without recursion. Raises CodeError if it is too deep."""
    found, row = [tree], [tree]
    for _ in range(MOST_DEPTH):
        row = [child for node in row for child in ast.iter_child_nodes(node)]
        found += row
    if row:
        raise CodeError("is nested too deeply")
    return found
