"""Splits by keyed hash of the group: stable under growth, fair, and dependent on the key alone."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fledgling.data.split import choose, opening, position, record

SHARES = {"train": 0.6, "val": 0.1, "test": 0.3}


@given(st.text(), st.text(min_size=1))
def test_position_is_a_function_into_the_unit_interval(group, key):
    assert 0 <= position(key, group) < 1
    assert position(key, group) == position(key, group)


def test_positions_are_pinned():
    # Data sets that were split before must not move under a new version.
    assert position("fledgling", "g") == 0.9060657325103256
    assert choose(position("fledgling", "g"), SHARES) == "test"


def test_shares_are_kept_and_keys_differ():
    groups = [f"g{index}" for index in range(20_000)]
    counts = Counter(choose(position("k", group), SHARES) for group in groups)
    for name, share in SHARES.items():
        assert abs(counts[name] / len(groups) - share) < 0.015
    moved = sum(choose(position("k", group), SHARES) != choose(position("l", group), SHARES) for group in groups)
    assert 0.45 < moved / len(groups) < 0.63  # 1 - (0.36 + 0.01 + 0.09) = 0.54


@given(st.floats(min_value=0, max_value=1, exclude_max=True))
def test_a_split_without_a_share_gets_nothing(at):
    assert choose(at, {"train": 0.9, "val": 0.1, "test": 0.0}) in ("train", "val")
    assert choose(at, {"train": 0.0, "val": 0.0, "test": 1.0}) == "test"


def test_rounding_leaves_no_group_behind():
    assert choose(1 - 2**-53, {"train": 0.1, "val": 0.2, "test": 0.7 - 1e-12}) == "test"
    assert choose(1 - 2**-53, {"train": 0.9, "val": 0.1 - 1e-12, "test": 0.0}) == "val"


def test_known_data_sets_show_their_records():
    assert record("sgd", "sgd_dev_14_00079_19", "[]") == "sgd_dev_14_00079"
    assert record("bfcl_v4", "bfcl_live_multiple_315-132-5", "[]") == "bfcl_live_multiple_132"
    assert record("bfcl_v4", "bfcl_simple_python_3", "[]") is None
    assert record("e2e_nlg", "e2e_train_1", '{"name":"A"}') == record("e2e_nlg", "e2e_train_2", '{"name":"A"}')
    assert record("e2e_nlg", "e2e_train_1", '{"name":"A"}') != record("e2e_nlg", "e2e_train_1", '{"name":"B"}')
    assert record(None, "sgd_dev_14_00079_19", "[]") is None


def test_opening_is_the_first_request():
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "first"}, {"role": "user", "content": "2"}]
    assert opening(turns) == "first"
