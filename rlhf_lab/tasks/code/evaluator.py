"""Run a small part of Python by walking its syntax tree, with bounds on steps and memory.

What a model writes is never given to `exec`, `eval` or `compile`: each kind of node below is done
by hand, and a kind that is not below is refused. Names reach the arguments, the variables and the
functions of library.py; attributes reach the methods listed there. A step is one node, one item of
a loop or of a list that is read through, so steps measure the work that code makes.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_lab.tasks.code.bounded import CodeError
from rlhf_lab.tasks.code.library import Library
from rlhf_lab.tasks.code.limits import Budget, LimitError, check_plain, check_size, checked
from rlhf_lab.tasks.code.operators import UNARY, combine, compare, text_of

MOST_CALLS = 20  # of the code's own functions inside one another
CAUGHT = (
    ArithmeticError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
)  # what an `except` in the code may catch

Names = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a call gave: a value, or an error in words; the steps that it took; and what it would
    have done to files, machines and tables."""

    value: Any = None
    error: str = ""
    steps: int = 0
    deeds: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Function:
    """A function or a lambda of the code."""

    parameters: tuple[str, ...]
    defaults: tuple[Any, ...]
    body: Sequence[ast.stmt] | ast.expr
    around: Names


@dataclass(frozen=True, eq=False)
class Method:
    """A method that belongs to a value, not yet called."""

    thing: Any
    name: str


class Return(Exception):
    """Leaves a function with a value."""


class Break(Exception):
    """Leaves a loop."""


class Continue(Exception):
    """Goes on with the next round of a loop."""


def call(tree: ast.Module, name: str, arguments: Sequence[Any], steps: int = 20_000) -> Outcome:
    """Call the function of that name that a module defines."""
    run = Run(steps)
    try:
        run.block(tree.body, run.globals)
        function = run.globals.get(name)
        if not isinstance(function, Function):
            raise CodeError(f"does not define {name}")
        value, spent = run.apply(function, *arguments), run.budget.spent
        check_plain(value)
        return Outcome(value, "", spent, tuple(run.library.deeds))
    except (CodeError, LimitError) as error:
        return Outcome(None, str(error), run.budget.spent)
    except RecursionError:
        return Outcome(None, "calls itself too deeply", run.budget.spent)
    except (Return, Break, Continue):
        return Outcome(None, "returns or breaks in the wrong place", run.budget.spent)
    except (*CAUGHT, MemoryError) as error:
        return Outcome(None, f"stops with {type(error).__name__}", run.budget.spent)


class Run:
    """One run of a module."""

    def __init__(self, steps: int):
        self.budget, self.depth = Budget(steps), 0
        self.library = Library(self.budget, self.apply)
        self.globals: Names = {}

    def apply(self, function: Any, *args: Any, **options: Any) -> Any:
        """Call a value: a function of the code or of the library, or a method."""
        if isinstance(function, Method):
            return self.library.method(function.thing, function.name, list(args), options)
        if not isinstance(function, Function):
            if not callable(function):
                raise TypeError("this cannot be called")
            return checked(function(*args, **options))
        if self.depth >= MOST_CALLS:
            raise LimitError("calls itself too deeply")
        self.depth += 1
        try:
            names = function.around | _bound(function, args, options)
            if isinstance(function.body, ast.expr):
                return self.value(function.body, names)
            self.block(function.body, names)
        except Return as leaving:
            return leaving.args[0]
        finally:
            self.depth -= 1
        return None

    # ---- statements

    def block(self, statements: Sequence[ast.stmt], names: Names) -> None:
        for statement in statements:
            self.budget.spend()
            do = STATEMENTS.get(type(statement))
            if do is None:
                raise CodeError(f"uses {type(statement).__name__}, which is not known here")
            do(self, statement, names)

    def _do_FunctionDef(self, node: ast.FunctionDef, names: Names) -> None:
        if node.decorator_list:
            raise CodeError("uses a decorator, which is not known here")
        names[node.name] = self._function(node.args, node.body, names)

    def _do_Return(self, node: ast.Return, names: Names) -> None:
        raise Return(None if node.value is None else self.value(node.value, names))

    def _do_Expr(self, node: ast.Expr, names: Names) -> None:
        self.value(node.value, names)

    def _do_Pass(self, node: ast.Pass, names: Names) -> None:
        pass

    def _do_Break(self, node: ast.Break, names: Names) -> None:
        raise Break

    def _do_Continue(self, node: ast.Continue, names: Names) -> None:
        raise Continue

    def _do_Assign(self, node: ast.Assign, names: Names) -> None:
        value = self.value(node.value, names)
        for target in node.targets:
            self.assign(target, value, names)

    def _do_AnnAssign(self, node: ast.AnnAssign, names: Names) -> None:
        if node.value is not None:
            self.assign(node.target, self.value(node.value, names), names)

    def _do_AugAssign(self, node: ast.AugAssign, names: Names) -> None:
        old, more = self.value(node.target, names), self.value(node.value, names)
        if isinstance(old, list) and isinstance(node.op, ast.Add):
            self.library.method(old, "extend", [more], {})
        else:
            self.assign(node.target, combine(self.budget, type(node.op), old, more), names)

    def assign(self, target: ast.expr, value: Any, names: Names) -> None:
        """Give a value to a variable, several variables or a place in a list or dictionary."""
        if isinstance(target, ast.Name):
            names[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            values = self.budget.all(value)
            if len(values) != len(target.elts):
                raise ValueError("wrong number of values")
            for part, each in zip(target.elts, values):
                self.assign(part, each, names)
        elif isinstance(target, ast.Subscript):
            thing, place = self.value(target.value, names), self.value(target.slice, names)
            if not isinstance(thing, list | dict) or isinstance(place, slice):
                raise TypeError("no value can be put here")
            self.budget.weigh(place)
            check_size(len(thing) + 1)
            thing[place] = value
        else:
            raise CodeError("assigns to something that is not known here")

    def _do_If(self, node: ast.If, names: Names) -> None:
        self.block(node.body if self.value(node.test, names) else node.orelse, names)

    def _do_For(self, node: ast.For, names: Names) -> None:
        for thing in self.budget.each(self.value(node.iter, names)):
            self.assign(node.target, thing, names)
            if self._round(node.body, names):
                return
        self.block(node.orelse, names)

    def _do_While(self, node: ast.While, names: Names) -> None:
        while self.value(node.test, names):
            if self._round(node.body, names):
                return
        self.block(node.orelse, names)

    def _round(self, body: Sequence[ast.stmt], names: Names) -> bool:
        """One round of a loop; whether it broke off."""
        try:
            self.block(body, names)
        except Continue:
            pass
        except Break:
            return True
        return False

    def _do_Try(self, node: ast.Try, names: Names) -> None:
        try:
            self.block(node.body, names)
        except CAUGHT as error:
            for handler in node.handlers:
                wanted = ast.unparse(handler.type) if handler.type else "Exception"
                if wanted == "Exception" or type(error).__name__ in wanted:
                    self.block(handler.body, names)
                    break
            else:
                raise
        else:
            self.block(node.orelse, names)
        finally:
            self.block(node.finalbody, names)

    def _do_Raise(self, node: ast.Raise, names: Names) -> None:
        raise ValueError("raised by the code")

    # ---- expressions

    def value(self, node: ast.expr, names: Names) -> Any:
        """The value of an expression."""
        self.budget.spend()
        of = EXPRESSIONS.get(type(node))
        if of is None:
            raise CodeError(f"uses {type(node).__name__}, which is not known here")
        return of(self, node, names)

    def _of_Constant(self, node: ast.Constant, names: Names) -> Any:
        if not isinstance(node.value, str | int | float | None):
            raise CodeError("uses a constant that is not known here")
        return checked(node.value)

    def _of_Name(self, node: ast.Name, names: Names) -> Any:
        for known in (names, self.globals, self.library.functions):
            if node.id in known:
                return known[node.id]
        raise NameError(node.id)

    def _of_NamedExpr(self, node: ast.NamedExpr, names: Names) -> Any:
        names[node.target.id] = value = self.value(node.value, names)
        return value

    def _of_BinOp(self, node: ast.BinOp, names: Names) -> Any:
        left, right = self.value(node.left, names), self.value(node.right, names)
        return combine(self.budget, type(node.op), left, right)

    def _of_UnaryOp(self, node: ast.UnaryOp, names: Names) -> Any:
        apply: Any = UNARY[type(node.op)]
        return apply(self.value(node.operand, names))

    def _of_BoolOp(self, node: ast.BoolOp, names: Names) -> Any:
        stops = isinstance(node.op, ast.Or)
        for part in node.values:
            value = self.value(part, names)
            if bool(value) == stops:
                break
        return value

    def _of_Compare(self, node: ast.Compare, names: Names) -> Any:
        left, result = self.value(node.left, names), True
        for kind, part in zip(node.ops, node.comparators):
            right = self.value(part, names)
            result = compare(self.budget, type(kind), left, right)
            if not result:
                break
            left = right
        return result

    def _of_IfExp(self, node: ast.IfExp, names: Names) -> Any:
        return self.value(node.body if self.value(node.test, names) else node.orelse, names)

    def _of_Call(self, node: ast.Call, names: Names) -> Any:
        function, args = self.value(node.func, names), self._items(node.args, names)
        options = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                raise CodeError("uses **, which is not known here")
            options[keyword.arg] = self.value(keyword.value, names)
        return self.apply(function, *args, **options)

    def _of_Attribute(self, node: ast.Attribute, names: Names) -> Any:
        if node.attr.startswith("_"):
            raise CodeError("uses a hidden attribute")
        thing = self.value(node.value, names)
        if thing is self.library.functions["dict"] and node.attr == "fromkeys":
            return self.library.from_keys
        return Method(thing, node.attr)

    def _of_Subscript(self, node: ast.Subscript, names: Names) -> Any:
        thing, place = self.value(node.value, names), self.value(node.slice, names)
        if not isinstance(thing, str | list | tuple | dict | range):
            raise TypeError("this has no items")
        found = thing[place]
        if isinstance(place, slice):
            self.budget.spend(len(found) // (8 if isinstance(found, str) else 1))
        return found

    def _of_Slice(self, node: ast.Slice, names: Names) -> slice:
        parts = [p and self.value(p, names) for p in (node.lower, node.upper, node.step)]
        return slice(*parts)

    def _of_List(self, node: ast.List, names: Names) -> list:
        return checked(self._items(node.elts, names))

    def _of_Tuple(self, node: ast.Tuple, names: Names) -> tuple:
        return checked(tuple(self._items(node.elts, names)))

    def _of_Set(self, node: ast.Set, names: Names) -> set:
        return self.library.functions["set"](self._items(node.elts, names))

    def _of_Dict(self, node: ast.Dict, names: Names) -> dict:
        made = {}
        for key, value in zip(node.keys, node.values):
            if key is None:
                raise CodeError("uses **, which is not known here")
            place = self.value(key, names)
            self.budget.weigh(place)
            made[place] = self.value(value, names)
        return made

    def _items(self, nodes: Sequence[ast.expr], names: Names) -> list:
        items: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                items += self.budget.all(self.value(node.value, names))
            else:
                items.append(self.value(node, names))
        check_size(len(items))
        return items

    def _of_ListComp(self, node: ast.ListComp, names: Names) -> list:
        return self.budget.all(self._of_GeneratorExp(node, names))

    def _of_SetComp(self, node: ast.SetComp, names: Names) -> set:
        return self.library.functions["set"](self._of_GeneratorExp(node, names))

    def _of_DictComp(self, node: ast.DictComp, names: Names) -> dict:
        pair = ast.Tuple([node.key, node.value], ast.Load())
        made = self._comprehension(pair, node.generators, dict(names))
        return self.library.functions["dict"](made)

    def _of_GeneratorExp(self, node: Any, names: Names) -> Iterator:
        return self._comprehension(node.elt, node.generators, dict(names))

    def _comprehension(
        self, element: ast.expr, loops: Sequence[ast.comprehension], names: Names
    ) -> Iterator:
        if not loops:
            yield self.value(element, names)
            return
        loop, *others = loops
        if loop.is_async:
            raise CodeError("uses async, which is not known here")
        for thing in self.budget.each(self.value(loop.iter, names)):
            self.assign(loop.target, thing, names)
            if all(self.value(test, names) for test in loop.ifs):
                yield from self._comprehension(element, others, names)

    def _of_Lambda(self, node: ast.Lambda, names: Names) -> Function:
        return self._function(node.args, node.body, names)

    def _of_JoinedStr(self, node: ast.JoinedStr, names: Names) -> str:
        out = ""
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                if part.format_spec is not None:
                    raise CodeError("formats a value in a way that is not known here")
                value = self.value(part.value, names)
                out += text_of(value, quoted=part.conversion == ord("r"))
            else:
                out += self.value(part, names)
            check_size(len(out))
        return out

    def _function(self, args: ast.arguments, body: Any, names: Names) -> Function:
        if args.vararg or args.kwarg or args.kwonlyargs or args.posonlyargs:
            raise CodeError("has arguments of a kind that is not known here")
        defaults = tuple(self.value(node, names) for node in args.defaults)
        around = {} if names is self.globals else names
        return Function(tuple(a.arg for a in args.args), defaults, body, around)


def _bound(function: Function, args: Sequence[Any], options: Names) -> Names:
    """The names of a function's parameters with their values."""
    names = dict(zip(function.parameters, args))
    if len(args) > len(function.parameters) or names.keys() & options.keys():
        raise TypeError("too many arguments")
    names |= options
    late = function.parameters[len(function.parameters) - len(function.defaults) :]
    names = dict(zip(late, function.defaults)) | names
    if names.keys() != set(function.parameters):
        raise TypeError("an argument is missing")
    return names


def _by_kind(prefix: str) -> dict[type, Any]:
    """The methods of `Run` with this prefix, by the kind of node that they are for."""
    found = {name: do for name, do in vars(Run).items() if name.startswith(prefix)}
    return {getattr(ast, name.removeprefix(prefix)): do for name, do in found.items()}


STATEMENTS, EXPRESSIONS = _by_kind("_do_"), _by_kind("_of_")
