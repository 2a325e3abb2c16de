"""Links between splits: what counts as one, and what does not."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledgling.data import leaks
from fledgling.data.table import Table, hash64, repeats

BASE = "could you please book a table for 4 people at the harbour restaurant in Oslo on Friday evening"


def table(rows):
    """rows: (split, group, text, answer)."""
    made = Table()
    for split, group, text, answer in rows:
        normalised = leaks.normalise(text)
        values = dict.fromkeys(made._columns, 0)
        values |= {"split": split, "group": hash64(group), "text": hash64(text), "normalised": hash64(normalised)}
        values["sense"] = leaks.sense(normalised, answer) if leaks.word_count(normalised) >= leaks.MIN_WORDS else 0
        made.append(**values)
    return made


def found(rows, threshold=0.8):
    links = leaks.find(table(rows), threshold, lambda row: leaks.normalise(rows[row][2])).links
    return [(link.kind, link.row, link.split, link.later, link.later_split) for link in links]


def test_each_kind_is_found_once_and_by_its_first_name():
    rows = [
        (0, "same", "one request about the weather", {"a": 1}),
        (2, "same", "another request altogether here", {"a": 2}),
        (0, "g1", BASE, {"a": 3}),
        (1, "g2", BASE, {"a": 3}),
        (0, "g3", 'Sort {"b": 1, "a": 2}  NOW!', {"a": 4}),
        (2, "g4", 'sort {"a": 2, "b": 1} now', {"a": 4}),
        (1, "g5", BASE.replace("Oslo", "Rome"), {"a": 5}),
        (2, "g6", BASE.replace("Oslo", "Rome").replace("please ", ""), {"a": 5}),
        (0, "g7", "nothing else is like this one at all", {"a": 1}),
    ]
    assert found(rows) == [
        ("record", 0, 0, 1, 2),
        ("text", 2, 0, 3, 1),
        ("normalised", 4, 0, 5, 2),
        ("near_duplicate", 6, 1, 7, 2),
    ]


def test_a_row_may_be_linked_to_both_later_splits():
    rows = [(0, "a", BASE, 1), (1, "b", BASE, 1), (2, "c", BASE, 1)]
    assert [link[:2] + link[3:] for link in found(rows)] == [("text", 0, 2, 2), ("text", 0, 1, 1), ("text", 1, 2, 2)]


def test_one_template_with_other_values_is_no_near_duplicate():
    cities = ["Oslo", "Rome", "Bern", "Lima", "Cork", "Nice"]
    rows = [(index % 3, f"g{index}", BASE.replace("Oslo", city), {"city": city}) for index, city in enumerate(cities)]
    assert found(rows) == []


def test_other_numbers_are_no_near_duplicate():
    rows = [(0, "a", BASE, {"intent": "book"}), (2, "b", BASE.replace("4", "5"), {"intent": "book"})]
    assert found(rows) == []


def test_short_requests_are_not_judged():
    rows = [(0, "a", "lower the lights please", 1), (2, "b", "olly lower the lights please", 1)]
    assert found(rows, 0.5) == []


def test_the_threshold_decides_and_null_switches_off():
    rows = [(0, "a", BASE, 1), (2, "b", BASE.replace("could you please", "I want you to"), 1)]
    similarity = leaks.jaccard(*(leaks.shingles(leaks.normalise(row[2])) for row in rows))
    assert found(rows, similarity - 0.01) == [("near_duplicate", 0, 0, 1, 2)]
    assert found(rows, similarity + 0.01) == []
    assert found(rows, None) == []


def test_rows_that_meet_by_chance_are_compared_in_full():
    senses, splits = np.array([1, 2, 1], np.uint64), np.array([0, 2, 2], np.uint8)
    texts = [BASE, BASE, BASE.replace("Oslo", "Rome")]
    pairs = [(0, 1), (0, 2)]
    assert [link.later for link in leaks._verified(pairs, senses, splits, 0.8, texts.__getitem__)] == [2]
    assert list(leaks._verified(pairs, senses, splits, 0.99, texts.__getitem__)) == []


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.95])
def test_candidates_miss_no_pair(threshold):
    rng = np.random.default_rng(5)
    words = [f"word{chr(97 + a)}{chr(97 + b)}" for a in range(20) for b in range(20)]
    rows = []
    for index in range(120):
        text = list(rng.choice(words, 30))
        rows.append((2, f"t{index}", " ".join(text), "x"))
        for place in rng.choice(30, int(rng.integers(0, 16)), replace=False):
            text[place] = str(rng.choice(words))
        rows.append((0, f"a{index}", " ".join(text) + " x", "x"))
    pieces = [leaks.shingles(leaks.normalise(row[2])) for row in rows]
    near = {i for i in range(1, len(rows), 2) if leaks.jaccard(pieces[i], pieces[i - 1]) >= threshold}
    assert 0 < len(near) < 120
    assert {row for _, row, *_ in found(rows, threshold)} == near


@given(st.text(), st.dictionaries(st.text("abc_ß{", min_size=1), st.integers()))
def test_normalise_forgets_the_order_of_keys_and_white_space(text, value):
    backwards = dict(reversed(value.items()))
    said = f"{text} {json.dumps(value)} now"
    assert leaks.normalise(said) == leaks.normalise(f"{text}\n{json.dumps(backwards, indent=3)}\tNOW. ")


def test_normalise_ends_on_a_text_of_braces():
    assert leaks.normalise("{" * 200_000) == "{" * 200_000
    assert leaks.normalise('{"a":' * 50_000)


def test_normalise_keeps_what_means_something():
    assert leaks.normalise("Add -5") != leaks.normalise("Add 5")
    assert leaks.normalise("C++") != leaks.normalise("C")


def test_request_leaves_system_and_tools_out_and_keeps_the_dialogue():
    system, user = {"role": "system", "content": "s"}, {"role": "user", "content": "yes"}
    asked = {"role": "assistant", "content": "Book it?"}
    assert leaks.request([system, user]) == "yes" == leaks.request([user])
    assert leaks.request([user, asked, user]) != leaks.request([user])
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    assert leaks.request([user, called, user]) != leaks.request([user, asked | {"content": None}, user])


@given(st.lists(st.integers(min_value=0, max_value=5)))
def test_repeats_name_the_first_of_a_kind(keys):
    expected = [(row, keys.index(key)) for row, key in enumerate(keys) if keys.index(key) < row]
    assert list(repeats(np.array(keys, dtype=np.uint64))) == expected


# Scripts without spaces, invisible characters ------------------------------------------------------

CHINESE = "帮我查一下下周三从北京到上海的高铁还有没有二等座的票可以买"
JAPANESE = "明日の朝七時に東京駅から大阪まで新幹線の指定席を予約してください"


@pytest.mark.parametrize(
    ("text", "other", "near"),
    [
        (CHINESE, CHINESE + "吗", True),
        (CHINESE, CHINESE.replace("二等座", "一等座"), True),
        (CHINESE, "请告诉我这个周末杭州会不会下雨以及需不需要带伞出门", False),
        (CHINESE, "帮我查一下明天从广州到深圳的飞机票多少钱一张能不能退", False),
        (JAPANESE, JAPANESE.replace("ください", "下さい"), True),
        (JAPANESE, "来週の金曜日の夜に京都のホテルを二人分探してもらえますか", False),
        (f"OK {CHINESE}", f"{CHINESE} OK", True),
    ],
)
def test_copies_in_scripts_without_spaces_are_found(text, other, near):
    links = found([(0, "a", text, 1), (2, "b", other, 1)])
    assert [link[0] for link in links] == (["near_duplicate"] if near else [])


@pytest.mark.parametrize("text", [CHINESE, JAPANESE, "book a table in Oslo", "حجز طاولة في أوسلو"])
@pytest.mark.parametrize(
    "hidden", ["{}。", "\u200b{}", "{}\ufeff", "{} \u2060!", "{}！", "{}?", "{}…", "\u00ad{}\u200d.", "{}؟"]
)
def test_final_points_and_invisible_characters_hide_no_copy(text, hidden):
    assert leaks.normalise(hidden.format(text)) == leaks.normalise(text)


KOREAN = "내일 저녁 일곱 시에 파리에서 두 명 자리를 예약해 주세요"


@pytest.mark.parametrize(
    ("text", "other"),
    [
        (KOREAN, "내일 저녁 일곱 시에 파리에서 두 명 자리를 예약해주세요!"),
        (KOREAN.replace(" ", ""), KOREAN.replace(" ", "") + "요"),
        (
            "Réservez une table pour deux à Paris demain soir s'il vous plaît",
            "Reservez une table pour deux a Paris demain soir s'il vous plait",
        ),
        ("احجز طاولة لشخصين ٢ في باريس غدا مساء", "احجز طاولة لشخصين 2 في باريس غدا مساء"),
    ],
)
def test_spaces_of_korean_accents_and_digits_of_other_scripts_hide_no_copy(text, other):
    assert [link[0] for link in found([(0, "a", text, 1), (2, "b", other, 1)])] in (["near_duplicate"], ["normalised"])
    assert found([(0, "a", text, 1), (2, "b", other, 2)]) == [] or leaks.normalise(text) == leaks.normalise(other)
    assert [
        link[0] for link in found([(0, "a", KOREAN, 1), (2, "b", "오늘 아침 서울역 앞에서 만나기로 했던 약속", 1)])
    ] == []


def test_words_of_scripts_without_spaces():
    assert leaks.word_count("打开灯") < leaks.MIN_WORDS <= leaks.word_count(leaks.normalise(CHINESE))
    assert leaks.word_count("one two three") == 3
    assert leaks.word_count("één twee") == 2


def test_order_counts_in_scripts_without_spaces():
    assert leaks.jaccard(leaks.shingles("北京到上海"), leaks.shingles("上海到北京")) < 1
    assert leaks.shingles("") == leaks.shingles("...")


# Within a split -----------------------------------------------------------------------------------


def components(rows, threshold=0.8):
    pairs = leaks.find(table(rows), threshold, lambda row: leaks.normalise(rows[row][2])).within
    joined = leaks.Joined(len(rows))
    for row, first in pairs:
        assert first < row
        joined.join(row, first)
    return [joined.find(row) for row in range(len(rows))]


def test_wordings_of_one_question_are_one_and_other_answers_are_others():
    cities = ["Oslo", "Rome", "Bern", "Lima"]
    wordings = [BASE, BASE + " please", "hello " + BASE, BASE.replace("harbour", "harbor"), BASE + " thanks a lot"]
    rows = [(2, f"{c}{i}", w.replace("Oslo", c), {"city": c}) for i, w in enumerate(wordings) for c in cities]
    assert len(set(components(rows))) == len(cities)
    assert components([(0, "a", BASE, 1), (2, "b", BASE + " please", 1)]) == [0, 1]  # those are links


def test_a_chain_of_wordings_is_one_group():
    rows, text = (
        [],
        f"{BASE.replace('4', 'four')} and let me know whether there is a quiet place by the window for us".split(),
    )
    for step in range(12):
        text = [*text[:step], f"word{chr(97 + step)}", *text[step + 1 :]]
        rows.append((2, f"g{step}", " ".join(text), 1))
    ends = [leaks.shingles(leaks.normalise(rows[at][2])) for at in (0, -1)]
    assert leaks.jaccard(*ends) < 0.8
    assert set(components(rows)) == {0}


def test_many_copies_cost_little():
    rows = [(2, f"g{i}", BASE + " " + "abcdefghijklmnop"[i % 16] * (1 + i // 16 % 3), 1) for i in range(1500)]
    looked = []
    made = table(rows)
    leaks.find(made, 0.8, lambda row: looked.append(row) or leaks.normalise(rows[row][2]))
    assert len(looked) < 10 * len(rows)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_joined_sets_are_called_by_their_smallest(pairs):
    joined = leaks.Joined(31)
    sets = [{n} for n in range(31)]
    for a, b in pairs:
        joined.join(a, b)
        union = sets[a] | sets[b]
        for n in union:
            sets[n] = union
    assert [joined.find(n) for n in range(31)] == [min(sets[n]) for n in range(31)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Book Tom & Jerry's table for two people tonight", "Book Tom &amp; Jerry&#39;s table for two people tonight"),
        ("من فضلك احجز طاولة لشخصين في مطعم الميناء الليلة", "من فضلك اِحجِز طاولـة لشخصين في مطعم الميناء الليلة"),
        ("אנא הזמן שולחן לשניים במסעדת הנמל הלילה", "אנא הזמן שֻׁולחן לשניים במסעדת הנמל הלילה"),
        (
            "Lütfen bu akşam liman restoranında iki kişilik masa ayırtın",
            "LÜTFEN BU AKŞAM LİMAN RESTORANINDA İKİ KİŞİLİK MASA AYIRTIN",
        ),
    ],
)
def test_one_text_in_two_spellings_is_one(one, other):
    assert leaks.normalise(one) == leaks.normalise(other)


def test_marks_that_tell_words_apart_stay():
    for one, other in (("กรุณาจอง", "กรณาจอง"), ("resume", "résumé"), ("हिंदी", "हदी"), ("が", "か"), ("й", "и")):
        assert leaks.normalise(one) != leaks.normalise(other)


def test_punctuation_between_characters_without_spaces_hides_no_copy():
    one, other = "请帮我预订今晚港口餐厅的两人座位谢谢", "请帮我预订,今晚港口餐厅的两人座位,谢谢!"
    assert leaks.shingles(leaks.normalise(one)) == leaks.shingles(leaks.normalise(other))
    assert found([(0, "a", one, 1), (2, "b", other, 1)])[0][0] == "near_duplicate"
