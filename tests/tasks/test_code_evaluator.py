"""The evaluator of the coder: what it runs as Python does, and what it refuses, and that both end.

Nothing here may reach a file, a process, a module or a hidden attribute, and nothing may take long,
whatever the text. Each attempt gives a result or an error in words.
"""

import ast
from pathlib import Path

import pytest
from helpers import must_end
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_lab.tasks.code import bounded, evaluator, judge, library, limits, operators
from rlhf_lab.tasks.code.bounded import READS, CodeError, parse
from rlhf_lab.tasks.code.evaluator import call


def run(body, *arguments, parameters="xs", steps=20_000):
    """Call a function with this body."""
    indented = body.replace("\n", "\n    ")
    return attempt(f"def f({parameters}):\n    {indented}", *arguments, steps=steps)


def attempt(text, *arguments, steps=20_000):
    """What the evaluator makes of a text: an outcome, within the steps that it may take."""
    with must_end():
        try:
            outcome = call(parse(text).tree, "f", arguments, steps)
        except CodeError as error:
            return evaluator.Outcome(None, str(error))
    assert outcome.error or outcome.steps <= steps
    return outcome


# --------------------------------------------------------------------------------- as Python does

SAME = [  # bodies of f(xs) whose result on [3, 1, 2, 2] must be Python's
    "return sum(x > 1 for x in xs)",
    "return sorted(xs, reverse=True)[:2]",
    "return sorted(xs, key=lambda x: -x)",
    "return [x for x in xs if x % 2 == 0] + [0] * 3",
    "return max((x for x in xs if x > 9), default=None)",
    "return next((x for x in xs if x < 3), -1)",
    "t = 0\nfor i, x in enumerate(xs):\n    if x == 2:\n        continue\n    t += i * x\nreturn t",
    "out = []\nwhile xs:\n    out.append(xs.pop())\nreturn out",
    "return list(dict.fromkeys(xs))",
    "return {x: xs.count(x) for x in xs}",
    "d = {}\nfor x in xs:\n    d[x] = d.get(x, 0) + 1\nreturn sorted(d.items())",
    "return [a + b for a, b in zip(xs, xs[1:])]",
    "return len(set(xs)) < len(xs)",
    "a, b = xs[0], xs[-1]\na, b = b, a\nreturn [a, b]",
    'return ", ".join(str(x) for x in xs)',
    "return f\"{xs[0]} of {len(xs)}{'!'}\"",
    'return "%s and %s" % (xs[0], xs[1])',
    'return "{} and {}".format(xs[0], xs[1])',
    'return "a-b-c".split("-")[1].upper()',
    "return 1 <= xs[0] < 5 and not xs == []",
    "return xs[::-1] if xs else None",
    "return sum(xs) / len(xs)",
    "return 7 // 2, 7 % 2, 2 ** 5, -7 // 2",
    "def g(n):\n    return n if n < 2 else g(n - 1) + g(n - 2)\nreturn g(5)",
    "try:\n    return xs[9]\nexcept IndexError:\n    return -1",
    "for x in xs:\n    if x == 1:\n        break\nelse:\n    return 0\nreturn x",
    "return any(x == 1 for x in xs) or all(xs)",
    "s = set()\nfor x in xs:\n    s.add(x)\nreturn sorted(s)",
    "return [y for x in xs for y in range(x)]",
    "return list(map(lambda x: x * 2, filter(lambda x: x > 1, xs)))",
    "xs.sort()\nreturn xs",
    "xs[0] = 9\nreturn xs",
    "return (lambda a, b=2: a * b)(4)",
    "return min(xs, key=lambda x: (x % 2, x))",
    "m = [(x, i) for i, x in enumerate(xs)]\nreturn max(m)[1]",
    "return isinstance(xs[0], int) and not isinstance(xs, str)",
]


@pytest.mark.parametrize("body", SAME)
def test_it_gives_what_python_gives(body):
    indented = body.replace("\n", "\n    ")
    names = {}
    exec(f"def f(xs):\n    {indented}", names)  # written here, so it may be run
    assert run(body, [3, 1, 2, 2]).error == ""
    assert run(body, [3, 1, 2, 2]).value == names["f"]([3, 1, 2, 2])


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("return xs[5]", "stops with IndexError"),
        ("return 1 / 0", "stops with ZeroDivisionError"),
        ("return nothing", "stops with NameError"),
        ("return max([])", "stops with ValueError"),
        ("return xs + 1", "stops with TypeError"),
        ("return next(x for x in xs if x > 9)", "stops with StopIteration"),
        ("raise ValueError", "stops with ValueError"),
        ("while True:\n    pass", "takes too many steps"),
    ],
)
def test_errors_are_told_in_words(body, error):
    assert run(body, [1]).error == error


def test_a_function_without_a_return_gives_none():
    assert run("sum(xs)", [1]) == evaluator.Outcome(None, "", run("sum(xs)", [1]).steps)


def test_a_set_has_the_same_order_everywhere():
    """Python's own order of texts in a set differs between two processes."""
    assert run('return list(set("stone"))').error == "stops with TypeError"  # xs is missing
    assert run('return list(set("stone"))', []).value == ["e", "n", "o", "s", "t"]
    assert run('return "".join({"b", "a", "c"})', []).value == "abc"
    assert run("return [x for x in {9, 1, 30}]", []).value == [1, 9, 30]
    assert run("return str({1, 2})", []).error == "stops with TypeError"


def test_steps_grow_with_the_work():
    once, twice = "return sum(xs)", "t = 0\nfor x in xs:\n    t = sum(xs)\nreturn t"
    few, many = ([run(body, [1] * n).steps for n in (20, 40)] for body in (once, twice))
    assert few[1] - few[0] == 20
    assert 3 < many[1] / many[0] < 4.5
    assert run("return sorted(xs)", [1] * 40).steps > few[1]
    assert run("return xs + xs", [1] * 40).steps > run("return xs", [1] * 40).steps + 70


# ------------------------------------------------------------------------------- what it refuses

ESCAPES = {
    "import": "import os\ndef f(xs):\n    return os.getcwd()",
    "import in the function": "def f(xs):\n    import sys\n    return sys.path",
    "from import": "from os import system\ndef f(xs):\n    return system('ls')",
    "__import__": "def f(xs):\n    return __import__('os').getcwd()",
    "open": "def f(xs):\n    return open('/etc/passwd').read()",
    "exec": "def f(xs):\n    exec('import os')",
    "eval of code": "def f(xs):\n    return eval('__import__(\"os\").getcwd()')",
    "compile": "def f(xs):\n    return compile('1', 'a', 'eval')",
    "globals": "def f(xs):\n    return globals()",
    "getattr": "def f(xs):\n    return getattr(xs, '__class__')",
    "class of a value": "def f(xs):\n    return xs.__class__",
    "all classes": "def f(xs):\n    return ().__class__.__bases__[0].__subclasses__()",
    "globals of a function": "def f(xs):\n    return f.__globals__",
    "a frame": "def f(xs):\n    return (x for x in xs).gi_frame.f_globals",
    "self of a builtin": "def f(xs):\n    return len.__self__",
    "the library's own self": "def f(xs):\n    return sorted.__func__",
    "type": "def f(xs):\n    return type(xs)('a')",
    "a class": "class f:\n    pass",
    "a decorator": "@print\ndef f(xs):\n    return 1",
    "global": "def f(xs):\n    global y\n    y = 1\n    return y",
    "async": "async def f(xs):\n    return 1",
    "await": "async def f(xs):\n    await f(xs)",
    "yield": "def f(xs):\n    while True:\n        yield 1",
    "with": "def f(xs):\n    with open('a') as g:\n        return g",
    "del": "def f(xs):\n    del xs",
    "assert": "def f(xs):\n    assert False\n    return 1",
    "star arguments": "def f(*xs):\n    return xs",
    "star options": "def f(xs):\n    return dict(**{'a': 1})",
    "match": "def f(xs):\n    match xs:\n        case [a]:\n            return a",
    "format that reads attributes": "def f(xs):\n    return '{0.__class__}'.format(xs)",
    "format with a huge width": "def f(xs):\n    return '{:9999999999}'.format(1)",
    "f-string with a huge width": "def f(xs):\n    return f'{1:999999999999}'",
    "f-string with a width inside": "def f(xs):\n    return f'{1:{10**9}}'",
    "percent with a huge width": "def f(xs):\n    return '%999999999d' % 1",
    "percent with a star": "def f(xs):\n    return '%*d' % (10**9, 1)",
    "bytes": "def f(xs):\n    return b'a' * 10**9",
    "a complex number": "def f(xs):\n    return 1j ** 10**9",
    "str of a function": "def f(xs):\n    return str(f)",
    "str.__mul__": "def f(xs):\n    return 'a'.__mul__(10**9)",
    "center": "def f(xs):\n    return 'a'.center(10**9)",
    "zfill": "def f(xs):\n    return '1'.zfill(10**9)",
    "expandtabs": "def f(xs):\n    return '\\t'.expandtabs(10**9)",
    "encode": "def f(xs):\n    return 'a'.encode('idna')",
    "maketrans": "def f(xs):\n    return 'a'.translate({97: 'b' * 10**9})",
    "power tower": "def f(xs):\n    return 9 ** 9 ** 9",
    "power by a large number": "def f(xs):\n    return 2 ** 10000000000",
    "a shift": "def f(xs):\n    return 1 << 10**9",
    "squares without end": "def f(xs):\n    n = 9\n    while True:\n        n = n * n",
    "a large factorial": (
        "def f(xs):\n    t = 1\n    for i in range(1, 4000):\n        t *= i\n    return t"
    ),
    "a huge text": "def f(xs):\n    return 'a' * 10**9",
    "a huge text the other way": "def f(xs):\n    return 10**9 * 'a'",
    "a huge list": "def f(xs):\n    return [0] * 10**9",
    "a doubling text": "def f(xs):\n    s = 'ab'\n    while True:\n        s += s",
    "a doubling list": "def f(xs):\n    while True:\n        xs = xs + xs",
    "a list that doubles itself": "def f(xs):\n    while True:\n        xs += xs",
    "extend by itself": "def f(xs):\n    while True:\n        xs.extend(xs)",
    "append for ever": "def f(xs):\n    while True:\n        xs.append(1)",
    "grow while reading": "def f(xs):\n    for x in xs:\n        xs.append(x)",
    "nested doubling": (
        "def f(xs):\n    for i in range(60):\n        xs = [xs, xs]\n    return str(xs)"
    ),
    "nested doubling compared": (
        "def f(xs):\n    ys = list(xs)\n    for i in range(60):\n        xs = [xs, xs]\n"
        "        ys = [ys, ys]\n    return xs == ys"
    ),
    "nested doubling hashed": (
        "def f(xs):\n    t = (1,)\n    for i in range(60):\n        t = (t, t)\n    return {t: 1}"
    ),
    "nested doubling sorted": (
        "def f(xs):\n    a, b = (1,), (1,)\n    for i in range(60):\n"
        "        a, b = (a, a), (b, b)\n    return sorted([a, b])"
    ),
    "nested doubling returned": (
        "def f(xs):\n    for i in range(60):\n        xs = [xs, xs]\n    return xs"
    ),
    "a list in itself": "def f(xs):\n    xs.append(xs)\n    return str(xs)",
    "a list in itself compared": (
        "def f(xs):\n    ys = []\n    ys.append(ys)\n    xs.append(xs)\n    return xs == ys"
    ),
    "a list in itself returned": "def f(xs):\n    xs.append(xs)\n    return xs",
    "a dictionary in itself": "def f(xs):\n    d = {}\n    d[1] = d\n    return repr(d)",
    "a huge range": "def f(xs):\n    return list(range(10**12))",
    "a range of huge numbers": "def f(xs):\n    return range(9**99, 9**99 + 1)",
    "search in a huge range": "def f(xs):\n    return 'a' in range(10**12)",
    "four loops": (
        "def f(xs):\n    return [1 for a in range(999) for b in range(999) for c in range(999) "
        "for d in range(999)]"
    ),
    "a generator without end": "def f(xs):\n    return list(x for x in iter(int, 1))",
    "sum of lists": "def f(xs):\n    return sum([[1] * 3000] * 3000, [])",
    "join of long texts": "def f(xs):\n    return ('a' * 3000).join(['b' * 3000] * 3000)",
    "replace that grows": (
        "def f(xs):\n    s = 'a'\n    while True:\n        s = s.replace('a', 'aaaaaaaaaa')"
    ),
    "replace nothing": "def f(xs):\n    return ('a' * 3000).replace('', 'b' * 3000)",
    "a huge literal": "def f(xs):\n    return " + "9" * 1500,
    "int of a long text": "def f(xs):\n    return int('9' * 3999)",
    "str of a large number": "def f(xs):\n    return str(2 ** 127) * 10**8",
    "float of a long text": "def f(xs):\n    return float('9' * 3999)",
    "round by a huge number": "def f(xs):\n    return round(12345, -(10**9))",
    "chr": "def f(xs):\n    return chr(-1)",
    "recursion": "def f(xs):\n    return f(xs)",
    "recursion of two": "def f(xs):\n    return g(xs)\ndef g(xs):\n    return f(xs)",
    "recursion of a lambda": "def f(xs):\n    g = lambda h: h(h)\n    return g(g)",
    "recursion that doubles": "def f(xs):\n    return f(xs) + f(xs)",
    "recursion in a key": "def f(xs):\n    return sorted([1, 2], key=lambda x: f(x))",
    "except catches nothing": (
        "def f(xs):\n    while True:\n        try:\n            while True:\n                pass\n"
        "        except:\n            pass"
    ),
    "except Exception": (
        "def f(xs):\n    try:\n        return 'a' * 10**9\n"
        "    except Exception:\n        return f(xs)"
    ),
    "finally": (
        "def f(xs):\n    try:\n        while True:\n            pass\n    finally:\n"
        "        while True:\n            pass"
    ),
    "walrus": "def f(xs):\n    while (n := 1):\n        n += 1",
    "a lambda that grows": "def f(xs):\n    g = lambda s: g(s + s)\n    return g('ab')",
    "map in map": (
        "def f(xs):\n    m = xs\n    for i in range(500):\n        m = map(str, m)\n"
        "    return list(m)"
    ),
    "zip in zip": (
        "def f(xs):\n    m = xs\n    for i in range(500):\n        m = zip(m)\n    return list(m)"
    ),
    "code outside": "while True:\n    pass\ndef f(xs):\n    return 1",
    "return outside": "return 1\ndef f(xs):\n    return 1",
    "break outside a loop": "def f(xs):\n    break",
    "brackets": "def f(xs):\n    return " + "(" * 900 + "1" + ")" * 900,
    "open brackets": "def f(xs):\n    return " + "(" * 1500,
    "open braces": "def f(xs):\n    return " + "{" * 1500,
    "brackets of all kinds": "def f(xs):\n    return " + "([{" * 400,
    "minus signs": "def f(xs):\n    return " + "-" * 1500 + "1",
    "not not": "def f(xs):\n    return " + "not " * 450 + "1",
    "lambdas": "def f(xs):\n    return " + "lambda: " * 200 + "1",
    "choices": "def f(xs):\n    return " + "1 if xs else " * 140 + "1",
    "dots": "def f(xs):\n    return xs" + ".a" * 900,
    "powers": "def f(xs):\n    return " + "2**" * 600 + "2",
    "plusses": "def f(xs):\n    return " + "1+" * 900 + "1",
    "subscripts": "def f(xs):\n    return xs" + "[0]" * 600,
    "calls": "def f(xs):\n    return f" + "()" * 900,
    "comparisons": "def f(xs):\n    return 1" + "<2" * 900,
    "indentation": "\n".join(" " * i + "if 1:" for i in range(60)),
    "f-strings in f-strings": "def f(xs):\n    return " + "f'{" * 300,
    "nul": "def f(xs):\n    return '\0'",
    "half a character": "def f(xs):\n    return '\ud800'",
    "an invalid escape": "def f(xs):\n    return '\\d'",
    "a coding line": "# coding: rot13\ndef f(xs):\n    return 1",
    "other letters": "def f(xs):\n    return ｏｐｅｎ('a')",
    "too long": "def f(xs):\n    return 1\n" + "#" * READS,
}
HARMLESS = {"an invalid escape", "round by a huge number", "a coding line", "float of a long text"}
HARMLESS |= {"comparisons", "zip in zip"}  # these may give a value as well


@pytest.mark.parametrize("name", ESCAPES)
def test_an_attempt_gives_a_clear_error(name):
    outcome = attempt(ESCAPES[name], [1, 2])
    if name not in HARMLESS:
        assert outcome.error and outcome.value is None, outcome
    assert len(outcome.error) < 100


def test_there_are_many_attempts():
    assert len(ESCAPES) > 100


@pytest.mark.parametrize(
    "value", ["len", "xs.append", "[xs.append]", "(x for x in xs)", "f", "range(3)"]
)
def test_only_plain_values_come_out(value):
    outcome = run(f"return {value}", [1])
    assert outcome.value is None and outcome.error == "stops with TypeError"


PIECES = [
    "f", "xs", "x", "(", ")", "[", "]", "{", "}", ":", ",", ".", " ", "\n    ", "\n        ", "=",
    "==", "+", "*", "**", "-", "not ", "lambda ", "lambda x: ", "for x in xs", "if x ", "else ",
    "while True:", "return ", "def f(xs):", "range(9)", "10**9", "'a'", '"', "f'{x}'", "1", "9999",
    "append", "sorted", "__class__", "is ", "in ", "and ", "try:", "except:", "pass", ":=", "%",
]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
def test_any_text_is_done_with(text):
    attempt("def f(xs):\n    " + text, [1, 2])
    attempt(text, [1, 2])


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=3000))
def test_any_characters_are_done_with(text):
    attempt(text, [1])


@pytest.mark.parametrize(
    "unit", ["(", "[", "{", "-", "not ", "lambda:", "1+", "f'{", "a.", "\n ", "\\", "{[("]
)
def test_the_parser_is_never_given_what_could_blow_it_up(unit):
    attempt(unit * (READS // len(unit)))
    attempt(unit * 10)
    attempt("f(" + unit * 9 + ")" * 5)


@pytest.mark.parametrize("module", [bounded, evaluator, judge, library, limits, operators])
def test_nothing_is_given_to_python_to_run(module):
    tree = ast.parse(Path(module.__file__).read_text("utf-8"))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not called & {"exec", "eval", "compile", "__import__", "open"}
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert not imported & {"os", "subprocess", "sys", "builtins", "importlib", "shutil", "socket"}
