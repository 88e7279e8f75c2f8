"""The arithmetic of ranks in the widget's JavaScript, run in an empty page."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

SCRIPT = Path(__file__).parents[2] / "rlhf_lab" / "show" / "widgets" / "ranking_order.js"
WALK = """([seed, count, steps]) => {
    let state = seed;
    const random = (n) => { state = (state * 48271) % 2147483647; return state % n; };
    let order = [];
    const orders = [];
    for (let step = 0; step < steps; step++) {
        const place = random(count);
        const others = order.flat().filter((other) => other !== place);
        const anchor = others[random(Math.max(others.length, 1))];
        const moves = [
            () => giveRank(order, place, 1 + random(count)), () => raise(order, place),
            () => lower(order, place), () => toggleTie(order, place), () => without(order, place),
            () => append(order, place), () => takeFreeRank(order, place),
            () => anchor === undefined ? order : putBeside(order, place, anchor, random(2) === 1),
            () => anchor === undefined ? order : tieWith(order, place, anchor),
        ];
        order = fitted(moves[random(moves.length)](), count);
        orders.push([order, lastRank(order) - 1]);
    }
    return orders;
}"""


@pytest.fixture
def order_page(browser):
    page = browser.new_page()
    page.add_script_tag(path=SCRIPT)
    yield page
    page.close()


@pytest.mark.parametrize("count", [2, 4, 9])
def test_no_move_loses_or_doubles_a_response(order_page, count):
    for order, ranks in order_page.evaluate(WALK, [count, count, 2_000]):
        places = [place for group in order for place in group]
        assert len(set(places)) == len(places)
        assert set(places) <= set(range(count))
        assert ranks <= count
        assert not order or order[-1]


@pytest.mark.parametrize(
    "digits, order",
    [
        ([(2, 3), (0, 2), (1, 1)], [[1], [0], [2]]),  # from the worst to the best
        ([(0, 1), (1, 1), (2, 1)], [[2], [1], [0]]),  # who comes later moves the others down
        ([(0, 1), (1, 2), (2, 3), (3, 4), (0, 3)], [[1], [2], [0], [3]]),
        ([(0, 1), (1, 2), (2, 3), (3, 4), (3, 1)], [[3], [0], [1], [2]]),
        ([(0, 4), (1, 4)], [[], [], [1], [0]]),
    ],
)
def test_digits_give_the_rank_pressed(order_page, digits, order):
    press = """pairs => pairs.reduce(
        (order, [place, rank]) => fitted(giveRank(order, place, rank), 4), [])"""
    assert order_page.evaluate(press, digits) == order
