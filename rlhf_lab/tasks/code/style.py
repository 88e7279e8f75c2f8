"""How code is written: what makes it hard to read or longer than it need be, and whether it answers
from the examples that the prompt shows."""

import ast
import re
from collections.abc import Sequence

from rlhf_lab.tasks.code.examples import Example, same

ODD_NAME = re.compile(r"[lIO]|[lIO01_]{2,}|_")
LONGEST_LINE = 79
MOST_LINES = 7


def hard_to_read(tree: ast.Module, text: str) -> list[str]:
    """What makes code hard to read, in words."""
    found, nodes = [], list(ast.walk(tree))
    names = {n.id for n in nodes if isinstance(n, ast.Name)} | {
        n.arg for n in nodes if isinstance(n, ast.arg)
    }
    odd = sorted(name for name in names if ODD_NAME.fullmatch(name))
    if odd:
        found.append(f"has names that say nothing ({', '.join(odd)})")
    if any(isinstance(n, ast.Call) and isinstance(n.func, ast.Lambda) for n in nodes):
        found.append("calls a lambda on the spot")
    if _statements_share_lines(tree):
        found.append("puts several statements on one line")
    if any(_is_bool_test(n) for n in nodes if isinstance(n, ast.Compare)):
        found.append("compares with True or False")
    if any(_is_twice(n, ast.Not) for n in nodes if isinstance(n, ast.UnaryOp)):
        found.append("says not twice")
    if any(isinstance(n, ast.IfExp) and isinstance(n.body, ast.IfExp) for n in nodes):
        found.append("nests one choice in another")
    if any(len(line) > LONGEST_LINE for line in text.splitlines()):
        found.append("has a line that is too long")
    return found


def _statements_share_lines(tree: ast.Module) -> bool:
    lines = [n.lineno for n in ast.walk(tree) if isinstance(n, ast.stmt)]
    return len(set(lines)) < len(lines)


def _is_bool_test(node: ast.Compare) -> bool:
    sides = [node.left, *node.comparators]
    return any(isinstance(s, ast.Constant) and isinstance(s.value, bool) for s in sides)


def _is_twice(node: ast.UnaryOp, kind: type[ast.unaryop]) -> bool:
    inner = node.operand
    return (
        isinstance(node.op, kind) and isinstance(inner, ast.UnaryOp) and isinstance(inner.op, kind)
    )


def needless(tree: ast.Module, text: str) -> list[str]:
    """What could be left out, in words."""
    found, nodes = [], list(ast.walk(tree))
    if any("#" in re.sub(r"\"[^\"]*\"|'[^']*'", "", line) for line in text.splitlines()):
        found.append("has a comment that nobody needs")
    if len(tree.body) > 1:
        found.append("has more than the function")
    if len([line for line in text.splitlines() if line.strip()]) > MOST_LINES:
        found.append("is long")
    if any(_has_dead_code(n) for n in nodes):
        found.append("has code that is never reached")
    if any(isinstance(n, ast.Name) and n.id == "print" for n in nodes):
        found.append("prints")
    if _unused(nodes):
        found.append(f"does not use {', '.join(_unused(nodes))}")
    statements = [ast.dump(n) for n in nodes if isinstance(n, ast.stmt)]
    if len(set(statements)) < len(statements):
        found.append("repeats itself")
    return found


def _has_dead_code(node: ast.AST) -> bool:
    leaves = (ast.Return, ast.Break, ast.Continue, ast.Raise)
    return any(
        isinstance(statement, leaves)
        for block in (getattr(node, "body", []), getattr(node, "orelse", []))
        if isinstance(block, list)
        for statement in block[:-1]
    )


def _unused(nodes: Sequence[ast.AST]) -> list[str]:
    """Variables that are given a value and never read."""
    names = [n for n in nodes if isinstance(n, ast.Name)]
    read = {n.id for n in names if isinstance(n.ctx, ast.Load)}
    return sorted({n.id for n in names if isinstance(n.ctx, ast.Store)} - read - {"i"})


# --------------------------------------------------------------------------- special cases


def special(tree: ast.Module, shown: Sequence[Example]) -> list[str]:
    """Where code looks for an input that the prompt shows, instead of working the result out."""
    arguments = {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    inputs = [value for values, _ in shown for value in values]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.Is | ast.In):
            sides = [node.left, *node.comparators]
            if any(_is_argument(s, arguments) for s in sides) and _has(sides, inputs):
                found.append("looks for an example that the prompt shows")
            elif any(_is_size(s, arguments) for s in sides) and _answers(tree, shown):
                found.append("looks for the size of an example that the prompt shows")
        if isinstance(node, ast.Dict) and _has([k for k in node.keys if k], inputs):
            found.append("lists the examples that the prompt shows")
    return found


def _is_argument(node: ast.expr, arguments: set[str]) -> bool:
    return any(isinstance(part, ast.Name) and part.id in arguments for part in _parts(node))


def _is_size(node: ast.expr, arguments: set[str]) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node) in {f"len({a})" for a in arguments}


def _answers(tree: ast.Module, shown: Sequence[Example]) -> bool:
    """Whether a result of the examples is returned as it is."""
    returned = [n.value for n in ast.walk(tree) if isinstance(n, ast.Return) and n.value]
    return _has(returned, [value for _, value in shown])


def _has(nodes: Sequence[ast.expr], values: Sequence[object]) -> bool:
    """Whether one of the nodes is one of these values, written out; empty ones do not count."""
    for part in [part for node in nodes for part in _parts(node)]:
        try:
            literal = ast.literal_eval(part)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
        if literal and any(same(literal, value) for value in values):
            return True
    return False


def _parts(node: ast.expr) -> list[ast.expr]:
    return [node, *node.elts] if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
