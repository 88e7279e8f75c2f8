"""Find insecure constructs in a syntax tree.

What counts is the form of the code, not its text: where a query, a command, a path or a page is
glued from what comes in, where a secret stands in the source or is compared with ==. A variable
stands for whatever was assigned to it.
"""

import ast
from collections.abc import Iterator

DEPTH = 6  # variables that stand for variables


class Glance:
    """A function with what its variables stand for."""

    def __init__(self, tree: ast.Module, arguments: set[str]):
        self.nodes = list(ast.walk(tree))
        self.arguments = arguments
        self.assigned: dict[str, list[ast.expr]] = {}
        for node in self.nodes:
            if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.NamedExpr):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    if isinstance(target, ast.Name) and node.value is not None:
                        self.assigned.setdefault(target.id, []).append(node.value)

    def meanings(self, node: ast.expr, depth: int = DEPTH) -> Iterator[ast.expr]:
        """The expressions that one may stand for: itself, or what was assigned to its name."""
        if isinstance(node, ast.Name) and node.id in self.assigned and depth:
            for value in self.assigned[node.id]:
                yield from self.meanings(value, depth - 1)
        else:
            yield node

    def is_fixed(self, node: ast.expr) -> bool:
        """Whether an expression is made of constants alone."""
        for meaning in self.meanings(node):
            for part in ast.walk(meaning):
                if isinstance(part, ast.Name) and part.id in self.arguments:
                    return False
                if isinstance(part, ast.Name) and part.id in self.assigned and part is not node:
                    if not all(isinstance(m, ast.Constant) for m in self.meanings(part)):
                        return False
        return True

    def calls(self, *names: str) -> Iterator[tuple[str, list[ast.expr]]]:
        """The calls of these functions, with their arguments."""
        for node in self.nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in names:
                    yield node.func.id, [*node.args, *(k.value for k in node.keywords)]

    def is_call(self, node: ast.expr, *names: str) -> bool:
        """Whether an expression stands for a call of one of these functions, always."""
        return all(
            isinstance(m, ast.Call) and isinstance(m.func, ast.Name) and m.func.id in names
            for m in self.meanings(node)
        )


def insecure(tree: ast.Module, job: str) -> list[str]:
    """The insecure constructs of an answer, in words."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    arguments = {arg.arg for f in functions for arg in f.args.args}
    glance = Glance(tree, arguments)
    found = [*_commands(glance), *_queries(glance), *_paths(glance), *_secrets(glance, job)]
    found += ["runs a text as code"] * len(list(glance.calls("eval", "exec", "compile")))
    if job == "page":
        found += _pages(glance)
    return found


def _commands(glance: Glance) -> Iterator[str]:
    for _, args in glance.calls("run"):
        for meaning in glance.meanings(args[0]) if args else []:
            if not isinstance(meaning, ast.List):
                if not glance.is_fixed(meaning):
                    yield "glues a shell command from what comes in"
            elif meaning.elts and not glance.is_fixed(meaning.elts[0]):
                yield "lets the input choose the command"
            elif any(isinstance(part, ast.BinOp | ast.JoinedStr) for part in meaning.elts):
                if any(isinstance(p, ast.Constant) and p.value == "-c" for p in meaning.elts):
                    yield "glues a shell command from what comes in"


def _queries(glance: Glance) -> Iterator[str]:
    for _, args in glance.calls("query"):
        if args and not glance.is_fixed(args[0]):
            yield "glues a query from what comes in"


def _paths(glance: Glance) -> Iterator[str]:
    for _, args in glance.calls("read", "write"):
        if not args or glance.is_fixed(args[0]) or glance.is_call(args[0], "inside"):
            continue
        if not _refuses_dots(glance):
            yield "joins a path without a check"


def _refuses_dots(glance: Glance) -> bool:
    """Whether it looks for ".." in what comes in and leaves if it is there."""
    for node in glance.nodes:
        if not isinstance(node, ast.If | ast.IfExp):
            continue
        for test in ast.walk(node.test):
            if isinstance(test, ast.Compare) and isinstance(test.left, ast.Constant):
                if test.left.value == ".." and isinstance(test.ops[0], ast.In | ast.NotIn):
                    return True
    return False


def _secrets(glance: Glance, job: str) -> Iterator[str]:
    for node in glance.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value.endswith("-key"):
                yield "has a secret in the source"
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(glance.is_call(side, "secret") for side in sides):
                yield "compares a secret with an operator, whose time gives it away"
            elif job == "check" and isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.In):
                yield "compares a token with an operator, whose time gives it away"


def _pages(glance: Glance) -> Iterator[str]:
    """Arguments that reach a text of HTML without `escape`."""
    escaped = {
        id(part)
        for node in glance.nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id == "escape"
        for part in ast.walk(node)
    }
    for node in glance.nodes:
        if not isinstance(node, ast.BinOp | ast.JoinedStr) or id(node) in escaped:
            continue
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part.id in glance.arguments:
                if id(part) not in escaped and isinstance(part.ctx, ast.Load):
                    yield "puts what comes in on a page without escape"
                    return
