"""What a plain run leaves out of a matrix hides no pair of values."""

from itertools import combinations, product

from tests.pairwise import each_value, pairwise


def pairs(cases):
    return {pair for case in cases for pair in combinations(enumerate(case), 2)}


def test_every_pair_is_kept_by_fewer_cases():
    cases = list(product("abcd", range(5), (True, False)))
    kept = pairwise(cases)
    assert pairs(cases[i] for i in kept) == pairs(cases)
    assert len(kept) == 20
    for i in kept:
        assert pairs(cases[j] for j in kept - {i}) < pairs(cases)


def test_combinations_that_are_not_there_are_not_asked_for():
    cases = [("a", 1), ("a", 1), ("b", 2, "only here"), ("c",)]
    assert pairwise(cases) == {0, 2, 3}


def test_two_factors_keep_all():
    assert len(pairwise(product("ab", "xyz"))) == 6
    assert pairwise([]) == set()


def test_each_value_needs_as_many_cases_as_the_longest_factor_has_values() -> None:
    cases = list(product("abc", range(5)))
    kept = [cases[number] for number in each_value(cases)]
    assert len(kept) == 5
    assert {letter for letter, _ in kept} == set("abc")
    assert {number for _, number in kept} == set(range(5))
