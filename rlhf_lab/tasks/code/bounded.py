"""Read a text as Python, within bounds, into a syntax tree: nothing of it is run or compiled.

Python's own parser can be made to work for very long, or to run out of stack, by deep nesting. So
the text is measured before it is parsed, and the tree before anybody walks it.
"""

import ast
import re
import warnings
from collections import deque

READS = 2000  # characters of a text that are read; a longer one is refused
MOST_TOKENS = 400
MOST_DEPTH = 30  # of the tree
MOST_BRACKETS = 10  # inside one another
MOST_PREFIXES = 10  # such as "not not not" or "---" or "lambda: lambda:"

_TOKEN = re.compile(r"\w+|[^\w\s]")
_PREFIXES = re.compile(r"(?:(?:\bnot\b|\blambda\b|\bawait\b|[-+~*:])\s*){%d}" % (MOST_PREFIXES + 1))


class CodeError(Exception):
    """Why a text is not run, in plain words."""


def parse(text: str) -> ast.Module:
    """The tree of a text of Python. Raises CodeError if it is none, or is too large or too deep."""
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
    if _depth(tree) > MOST_DEPTH:
        raise CodeError("is nested too deeply")
    return tree


def _brackets(text: str) -> int:
    """How many brackets stand open at once, at most (those in strings count too)."""
    depth = most = 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}" and depth > 0)
        most = max(most, depth)
    return most


def _depth(tree: ast.AST) -> int:
    """The depth of a tree, measured without recursion."""
    queue, depth = deque([(tree, 0)]), 0
    while queue:
        node, depth = queue.popleft()
        if depth > MOST_DEPTH:
            break
        queue.extend((child, depth + 1) for child in ast.iter_child_nodes(node))
    return depth
