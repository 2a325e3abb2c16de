"""Values in portions of so many bytes."""

from fledgling.portions import portions


def test_no_portion_is_over_its_bytes_and_none_is_lost():
    cut = list(portions("aaabbbbcc", lambda letter: {"a": 1, "b": 4, "c": 3}[letter], most_bytes=7))
    assert cut == [["a", "a", "a", "b"], ["b"], ["b"], ["b", "c"], ["c"]]


def test_no_portion_has_more_values_than_are_allowed():
    assert list(portions(range(5), lambda _: 1, most_bytes=100, most=2)) == [[0, 1], [2, 3], [4]]


def test_one_that_is_too_heavy_goes_alone_and_of_nothing_there_is_no_portion():
    assert list(portions([1, 9, 1], lambda value: value, most_bytes=5)) == [[1], [9], [1]]
    assert list(portions([], lambda value: 1, most_bytes=5)) == []
