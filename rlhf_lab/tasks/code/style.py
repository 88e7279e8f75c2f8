"""How code is written: what makes it hard to read or longer than it need be, and whether it answers
from the examples that the prompt shows."""

import ast
import re
from collections.abc import Sequence

from rlhf_lab.tasks.code.bounded import Code
from rlhf_lab.tasks.code.cases import Example, same

ODD_NAME = re.compile(r"[lIO]|[lIO01_]{2,}|_")
LONGEST_LINE = 79
MOST_LINES = 7
LEAVES = (ast.Return, ast.Break, ast.Continue, ast.Raise)


def hard_to_read(code: Code) -> list[str]:
    """What makes code hard to read, in words."""
    found = []
    if len(code.tree.body) > 1:
        found += ["has more than the function"] * 2
    names = {node.id for node in code.all(ast.Name)} | code.arguments
    odd = sorted(name for name in names if ODD_NAME.fullmatch(name))
    if odd:
        found.append(f"has names that say nothing ({', '.join(odd)})")
    if any(isinstance(node.func, ast.Lambda) for node in code.all(ast.Call)):
        found.append("calls a lambda on the spot")
    if _statements_share_lines(code):
        found.append("puts several statements on one line")
    if any(map(_is_bool_test, code.all(ast.Compare))):
        found.append("compares with True or False")
    if any(map(_is_not_not, code.all(ast.UnaryOp))):
        found.append("says not twice")
    if any(isinstance(node.body, ast.IfExp) for node in code.all(ast.IfExp)):
        found.append("nests one choice in another")
    if any(len(line) > LONGEST_LINE for line in code.text.splitlines()):
        found.append("has a line that is too long")
    return found


def _statements_share_lines(code: Code) -> bool:
    lines = [node.lineno for node in code.all(ast.stmt)]
    return len(set(lines)) < len(lines)


def _is_bool_test(node: ast.Compare) -> bool:
    sides = [node.left, *node.comparators]
    return any(isinstance(s, ast.Constant) and isinstance(s.value, bool) for s in sides)


def _is_not_not(node: ast.UnaryOp) -> bool:
    inner = node.operand
    return isinstance(inner, ast.UnaryOp) and {type(node.op), type(inner.op)} == {ast.Not}


def needless(code: Code) -> list[str]:
    """What could be left out, in words."""
    found = []
    lines = [line.strip() for line in code.text.splitlines() if line.strip()]
    if any("#" in re.sub(r"\"[^\"]*\"|'[^']*'", "", line) for line in lines):
        found.append("has a comment that nobody needs")
    if len(code.tree.body) > 1:
        found.append("has more than the function")
    if any(not isinstance(node.value, ast.Call) for node in code.all(ast.Expr)):
        found.append("has a line that does nothing")
    if len(lines) > MOST_LINES:
        found.append("is long")
    if any(map(_has_dead_code, code.nodes)):
        found.append("has code that is never reached")
    if any(node.id == "print" for node in code.all(ast.Name)):
        found.append("prints")
    if unused := _unused(code):
        found.append(f"does not use {', '.join(unused)}")
    if _repeats(lines):
        found.append("repeats itself")
    return found


def _has_dead_code(node: ast.AST) -> bool:
    blocks = [b for b in (getattr(node, "body", 0), getattr(node, "orelse", 0)) if type(b) is list]
    return any(isinstance(statement, LEAVES) for block in blocks for statement in block[:-1])


def _unused(code: Code) -> list[str]:
    """Variables that are given a value and never read."""
    read = {node.id for node in code.all(ast.Name) if isinstance(node.ctx, ast.Load)}
    stored = {node.id for node in code.all(ast.Name) if isinstance(node.ctx, ast.Store)}
    return sorted(stored - read - {"i", "_"})


def _repeats(lines: list[str]) -> bool:
    """Whether a line comes twice, other than one that leaves the function."""
    said = [line for line in lines if not line.startswith(("return", "else", "continue"))]
    return len(set(said)) < len(said)


# --------------------------------------------------------------------------- special cases


def special(code: Code, shown: Sequence[Example]) -> list[str]:
    """Where code looks for an input that the prompt shows, instead of working the result out."""
    inputs, found = [value for values, _ in shown for value in values], []
    for node in code.all(ast.Compare):
        sides = [node.left, *node.comparators]
        if not isinstance(node.ops[0], ast.Eq | ast.Is | ast.In):
            continue
        if any(_is_argument(s, code.arguments) for s in sides) and _has(sides, inputs):
            found.append("looks for an example that the prompt shows")
        elif any(_is_size(s, code.arguments) for s in sides) and _answers(code, shown):
            found.append("looks for the size of an example that the prompt shows")
    for table in code.all(ast.Dict):
        if _has([key for key in table.keys if key], inputs):
            found.append("lists the examples that the prompt shows")
    return found


def _is_argument(node: ast.expr, arguments: set[str]) -> bool:
    return any(isinstance(part, ast.Name) and part.id in arguments for part in _parts(node))


def _is_size(node: ast.expr, arguments: set[str]) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node) in {f"len({a})" for a in arguments}


def _answers(code: Code, shown: Sequence[Example]) -> bool:
    """Whether a result of the examples is returned as it is."""
    returned = [node.value for node in code.all(ast.Return) if node.value]
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
