"""What a reply means."""

import email.utils
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fledgling.errors import ConfigError, Unavailable
from fledgling.teacher.answers import prediction, read
from fledgling.teacher.taxonomy import Names, Reply, judge
from fledgling.teacher.waits import MAX_PAUSE_S, allowed_again, reset_s, retry_after

NAMES = Names("AZURE_API_KEY", "AZURE_ENDPOINT", "AZURE_DEPLOYMENT", "AZURE_API_VERSION")


def reply(status: int, headers: dict[str, str] | None = None, **error: Any) -> Reply:
    return Reply(0.1, status, json.dumps({"error": error}), headers or {})


def said(status: int, text: str) -> Reply:
    return Reply(0.1, status, text, {})


# What servers that people use say, word for word, and the key or variable that it is about.
VLLM_LIMIT = (
    '{"object": "error", "message": "\'max_tokens\' or \'max_completion_tokens\' is too large: 4096. This model\'s maximum '
    'context length is 4096 tokens and your request has 30 input tokens (4096 > 4096 - 30). None", '
    '"type": "BadRequestError", "param": null, "code": 400}'
)
OPENAI_BOTH = (
    "This model's maximum context length is 4097 tokens, however you requested {} tokens ({} in your prompt; {} for"
)
LLAMA_CPP_PYTHON = (
    "[{'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), 'msg': \"Input should be 'text' or "
    "'json_object'\", 'input': 'json_schema'}]"
)
CONFIGURATION = {
    (400, VLLM_LIMIT): "teacher.max_tokens",
    (400, f'{{"error": {{"message": "{OPENAI_BOTH.format(4130, 30, 4100)}"}}}}'): "teacher.max_tokens",
    (
        400,
        '{"error": {"message": "max_tokens is too large: 99999. This model supports at most 16384 completion tokens",'
        ' "param": "max_tokens", "code": "invalid_value"}}',
    ): "teacher.max_tokens",
    (422, '{"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "no"}]}'): "teacher.seed",
    (
        422,
        '{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","max_completion_tokens"],'
        '"msg":"Extra inputs are not permitted"}]}}',
    ): "teacher.max_tokens_key",
    (500, '{"error": {"message": ' + json.dumps(LLAMA_CPP_PYTHON) + "}}"): "teacher.response_format",
    (400, '{"error": {"message": "Unrecognized request argument supplied: seed"}}'): "teacher.seed",
    (
        400,
        '{"error": {"message": "litellm.UnsupportedParamsError: x does not support parameters: [\'seed\'], for m"}}',
    ): "teacher.seed",
    (
        400,
        '{"error": {"message": "Unsupported parameter: \'max_tokens\' is not supported with this model. Use '
        "'max_completion_tokens' instead.\"}}",
    ): "teacher.max_tokens_key",
    (401, '{"statusCode": 401, "message": "Access denied due to missing subscription key."}'): "teacher.headers",
    (404, '{"detail": "Not Found"}'): "AZURE_ENDPOINT",
    (
        400,
        '{"error": {"message": "litellm.BadRequestError: Invalid model name passed in model=foo", "code": "400"}}',
    ): "AZURE_DEPLOYMENT",
    (400, '{"message": "The provided model identifier is invalid."}'): "AZURE_DEPLOYMENT",
    (
        400,
        '{"error": {"code": "OperationNotSupported", "message": "The chatCompletion operation does not work with the '
        'specified model, text-embedding."}}',
    ): "AZURE_DEPLOYMENT",
    (
        400,
        '{"type": "error", "error": {"type": "invalid_request_error", "message": "max_tokens: 100000 > 8192, which is the '
        'maximum allowed number of output tokens for claude"}}',
    ): "teacher.max_tokens",
    (403, "<html><body>Forbidden by the proxy</body></html>"): "Forbidden by the proxy",
}
USED_UP = {
    (400, '{"error": {"message": "Budget has been exceeded! Current cost: 10.1, Max budget: 10.0"}}'): "quota",
    (429, '{"error": {"message": "ExceededBudget: over budget", "type": "budget_exceeded", "code": "429"}}'): "quota",
    (
        403,
        '{"statusCode": 403, "message": "Out of call volume quota. Quota will be replenished in 05:12:13."}',
    ): "quota",
    (429, '{"statusCode": 429, "message": "Rate limit is exceeded. Try again in 599 seconds."}'): "599 s",
    (429, '[{"error": {"code": 429, "message": "You exceeded your current quota, please check your plan"}}]'): "quota",
}


def date(seconds: float, now: float | None = None) -> str:
    return email.utils.formatdate((now or time.time()) + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": " 3 "}, 3),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "1e1"}, 10),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "9" * 400}, MAX_PAUSE_S * 1000),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "3600"}, 3600),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 2.5e11),
        ({"retry-after": "Tue, 19 Jan 2038 03:14:08 GMT", "date": "Tue, 19 Jan 2038 03:14:00 GMT"}, 8),
        ({"retry-after": date(5, 4e9), "date": date(0, 4e9)}, 5),
        ({"retry-after": "32 Foo 99999 99:99:99"}, None),
        ({"retry-after": "30s"}, 30),
        ({"retry-after": "1m30s"}, 90),
        ({"retry-after": "2038-01-19T03:14:08Z", "date": "Tue, 19 Jan 2038 03:14:00 GMT"}, 8),
        ({"retry-after": "2038-99-19T03:14:08Z"}, None),
        ({"x-ms-retry-after-ms": "900"}, 0.9),
    ],
)
def test_f20_all_forms_of_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    found = retry_after(headers)
    if seconds is None:
        assert found is None
    else:
        assert found == pytest.approx(seconds, abs=1.5, rel=0.05)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("20ms", 0.02),
        ("1m2.5s", 62.5),
        ("1h0m0s", 3600),
        ("1d1h", 90_000),
        ("800µs", 0.0008),
        (" 7 ", 7),
        ("0", 0),
        ("0s", 0),
        ("9" * 400 + "s", 1e9),
        ("inf", 0),
        ("nan", 0),
        ("-5", 0),
        ("-5s", 0),
        ("soon", 0),
        ("1s soon", 0),
        ("s", 0),
        ("1 s", 0),
        ("١s", 0),
        ("", 0),
    ],
)
@pytest.mark.parametrize("what", ["requests", "tokens"])
def test_f20_a_used_up_limit_says_when_it_is_reset(what: str, text: str, seconds: float) -> None:
    headers = {f"x-ratelimit-remaining-{what}": "0", f"x-ratelimit-reset-{what}": text}
    assert reset_s(headers) == pytest.approx(min(seconds, MAX_PAUSE_S))


@pytest.mark.parametrize("remaining", ["1", "-1", "", "none", "149984", None])
def test_f20_a_limit_that_is_not_used_up_is_no_wait(remaining: str | None) -> None:
    headers = {"x-ratelimit-reset-requests": "6m0s"}
    assert reset_s(headers if remaining is None else headers | {"x-ratelimit-remaining-requests": remaining}) == 0


def test_f20_of_two_used_up_limits_the_longer_counts() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "3s",
    }
    assert reset_s(headers) == 3
    assert reset_s(headers | {"x-ratelimit-remaining-tokens": "1"}) == 1
    assert reset_s(headers | {"x-ratelimit-reset-tokens": "?"}) == 1
    assert reset_s({}) == reset_s({"x-ratelimit-remaining-tokens": "0"}) == 0


@pytest.mark.parametrize(("ahead", "seconds"), [(20, 20), (-20, 0), (-(10**8), 0)])
def test_f20_dates_count_from_now(ahead: float, seconds: float) -> None:
    assert retry_after({"retry-after": date(ahead)}) == pytest.approx(seconds, abs=1.5)


def test_f45_a_date_is_read_against_the_providers_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    headers = {"retry-after": date(7, now), "date": date(0, now)}
    monkeypatch.setattr(time, "time", lambda: now - 86_400)
    assert retry_after(headers) == pytest.approx(7, abs=1)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (reply(401, message="Access denied due to invalid subscription key"), ConfigError, "AZURE_API_KEY"),
        (reply(403, message="no"), ConfigError, "AZURE_API_KEY"),
        (reply(404, code="DeploymentNotFound"), ConfigError, "AZURE_DEPLOYMENT"),
        (reply(404, message="Resource not found"), ConfigError, "AZURE_ENDPOINT"),
        (reply(400, message="Unsupported API version"), ConfigError, "AZURE_API_VERSION"),
        (reply(404, message="api-version is missing"), ConfigError, "AZURE_API_VERSION"),
        (reply(400, code="unsupported_parameter", param="max_tokens"), ConfigError, "teacher.max_tokens_key"),
        (reply(400, code="unsupported_value", param="temperature"), ConfigError, "teacher.temperature"),
        (reply(400, code=None, param="response_format"), ConfigError, "teacher.response_format"),
        (reply(400, code="unknown_parameter", param="seed"), ConfigError, "teacher.seed"),
        (reply(400, code="unknown_parameter", param="foo"), ConfigError, "does not take foo"),
        (reply(402, message="pay"), Unavailable, "paid"),
        (reply(429, code="insufficient_quota"), Unavailable, "quota"),
        (reply(429, code=None, type="insufficient_quota"), Unavailable, "quota"),
        (reply(429, {"retry-after": "3600"}), Unavailable, "3,600 s"),
        (reply(503, {"retry-after": date(7200)}), Unavailable, "wait"),
        (Reply(0.1, 302, "", {}), ConfigError, "redirects"),
        (Reply(0.1, trouble="certificate", detail="self-signed"), ConfigError, "SSL_CERT_FILE"),
        (Reply(0.1, trouble="token", detail="none"), ConfigError, "az login"),
        *((said(*case), ConfigError, words) for case, words in CONFIGURATION.items()),
        *((said(*case), Unavailable, words) for case, words in USED_UP.items()),
    ],
)
def test_stop_now(answer: Reply, error: type[Exception], words: str) -> None:
    action = judge(answer, NAMES)
    assert action.kind == "stop"
    assert type(action.error) is error
    assert words in str(action.error)


AZURE_429 = (
    "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded token rate "
    "limit of your current OpenAI S0 pricing tier. Please retry after 24 seconds. https://aka.ms/oai/quotaincrease"
)


@pytest.mark.parametrize(
    ("answer", "billed", "limited"),
    [
        (reply(429, code="429", message=AZURE_429), "no", True),
        (reply(408), "maybe", False),
        (reply(409), "no", False),
        (reply(500), "maybe", False),
        (Reply(0.1, 502, "<html>", {}), "maybe", False),
        (reply(503), "no", False),
        (reply(529, type="overloaded_error"), "no", False),
        (Reply(0.1, 200, "", {}), "maybe", False),
        (Reply(0.1, 200, "null", {}), "maybe", False),
        (Reply(0.1, 200, '"text"', {}), "maybe", False),
        (Reply(0.1, trouble="timeout"), "maybe", False),
        (Reply(0.1, trouble="broken"), "maybe", False),
        (Reply(0.1, trouble="connect"), "no", False),
    ],
)
def test_transient(answer: Reply, billed: str, limited: bool) -> None:
    action = judge(answer, NAMES)
    assert (action.kind, action.billed, action.rate_limited) == ("transient", billed, limited)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (reply(400, code="content_filter"), "content_filter"),
        (reply(400, code="x", innererror={"code": "ResponsibleAIPolicyViolation"}), "content_filter"),
        (reply(400, code="context_length_exceeded"), "length"),
        (reply(400, code=400, message="This model's maximum context length is 4096 tokens."), "length"),
        (reply(413), "length"),
        (reply(400, code=400, type="exceed_context_size_error", message="request (5130 tokens)"), "length"),
    ],
)
def test_final_for_the_row(answer: Reply, outcome: str) -> None:
    assert judge(answer, NAMES).kind == "finished"
    record = {"status": answer.status, "body": answer.text, "latency_s": answer.latency_s}
    assert prediction("r", "k", record).outcome == outcome


REFUSED_ROWS = {
    (
        400,
        '{"error": {"message": "Invalid schema for response_format: no", "param": "response_format"}}',
    ): "Invalid schema",
    (
        400,
        '{"error": {"message": "Invalid \'tools[0].function.name\': no.", "param": "tools[0].function.name"}}',
    ): "tools[0]",
    (400, '{"error": {"message": "Unable to generate parser for this template"}}'): "Unable to generate",
    (
        422,
        '{"detail": [{"loc": ["body", "messages", 1, "content"], "msg": "Input should be text"}]}',
    ): "Input should be text",
    (
        429,
        '{"error": {"code": "rate_limit_exceeded", "message": "Request too large for m on tokens per min (TPM): Limit 30000, '
        'Requested 30601."}}',
    ): "larger than the endpoint's rate limit",
    (
        413,
        '{"error": {"code": "rate_limit_exceeded", "type": "tokens", "message": "Request too large for model `m` on tokens '
        'per minute (TPM): Limit 6000, Requested 9012"}}',
    ): "larger than the endpoint's rate limit",
}


@pytest.mark.parametrize("case", REFUSED_ROWS)
def test_a_row_that_is_refused_fails_alone_and_with_the_endpoints_words(case: tuple[int, str]) -> None:
    action = judge(said(*case), NAMES)
    assert (action.kind, action.billed) == ("rejected", "no")
    assert REFUSED_ROWS[case] in action.message


TOO_LONG = [
    "request (5130 tokens) exceeds the available context size (4096 tokens), try increasing it",
    "This model's maximum context length is 4096 tokens. However, your request has 5000 input tokens.",
    OPENAI_BOTH.format(4200, 3944, 256),
    "prompt is too long: 210000 tokens > 200000 maximum",
    "The decoder prompt (length 9000) is longer than the maximum model length of 4096.",
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    "litellm.ContextWindowExceededError: no",
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 5000 `inputs` tokens",
]


@pytest.mark.parametrize("words", TOO_LONG)
def test_a_prompt_that_does_not_fit_is_an_outcome_of_its_row(words: str) -> None:
    answer = read(400, json.dumps({"error": {"message": words, "code": 400}}))
    assert answer is not None
    assert (answer.outcome, answer.reason) == ("length", words)


LIMITED = [
    (
        "Rate limit reached for m on tokens per min (TPM): Limit 10000, Used 9800, Requested 400. Please try again in 1.2s.",
        1.2,
    ),
    ("Rate limit is exceeded. Try again in 53 seconds.", 53),
    ("Requests have exceeded call rate limit. Please retry after 9 seconds.", 9),
    ("Resource exhausted: quota exceeded for requests per minute. Please retry in 400ms", 0.4),
    ("No deployments available for selected model, Try again in 60 seconds", 60),
    ("Max parallel request limit reached", None),
]


@pytest.mark.parametrize(("words", "pause"), LIMITED)
def test_a_rate_limit_is_waited_for_as_long_as_its_words_say(words: str, pause: float | None) -> None:
    action = judge(reply(429, message=words), NAMES)
    assert (action.kind, action.rate_limited, action.pause_s) == ("transient", True, pause)
    assert judge(reply(429, {"retry-after": "7"}, message=words), NAMES).pause_s == 7, "a header is more exact"


GATEWAY = [
    ({"x-ratelimit-reset": "30"}, 30),
    ({"x-ratelimit-reset": "30", "x-ratelimit-remaining": "0"}, 30),
    ({"x-ratelimit-reset": "30", "x-ratelimit-remaining": "4"}, None),
    ({"ratelimit-reset": "7", "ratelimit-remaining": "0"}, 7),
    ({"x-ratelimit-reset-after": "0.5", "x-ratelimit-reset": "4e9"}, 0.5),
    ({"x-ratelimit-reset": "2147483648", "date": "Tue, 19 Jan 2038 03:14:00 GMT"}, 8),
    ({"x-ratelimit-reset": "2147483648000", "date": "Tue, 19 Jan 2038 03:14:00 GMT"}, 8),
    ({"x-ratelimit-reset": "1" + "0" * 9}, None),
    *(({"x-ratelimit-reset": value}, None) for value in ("soon", "-5", "nan", "inf", "")),
    ({}, None),
]


@pytest.mark.parametrize(("headers", "seconds"), GATEWAY)
def test_f20_gateways_say_when_a_refused_call_is_allowed_again(headers: dict[str, str], seconds: float | None) -> None:
    assert allowed_again(headers) == (None if seconds is None else pytest.approx(seconds, abs=0.01))
    action = judge(reply(429, headers, message="no"), NAMES)
    assert (action.kind, action.pause_s) == ("transient", allowed_again(headers))
    assert judge(reply(429, headers | {"retry-after": "2"}, message="no"), NAMES).pause_s == 2


def test_f20_a_days_limit_that_is_used_up_ends_the_stage() -> None:
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2147483648000", "date": date(0, 2147400000)}
    assert isinstance(judge(reply(429, headers, message="free-models-per-day"), NAMES).error, Unavailable)


ELSEWHERE = {
    "bedrock": (400, '{"__type": "ThrottlingException", "message": "Too many requests, please wait"}', "transient", ""),
    "tgi out of memory": (424, '{"error": "CUDA out of memory", "error_type": "generation"}', "transient", ""),
    "a proxy gave up": (499, "", "transient", ""),
    "gemini": (
        400,
        '[{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}]',
        "stop",
        "AZURE_API_KEY",
    ),
    "llama.cpp": (500, '{"error": {"message": "tools param requires --jinja flag"}}', "stop", "--jinja"),
    "vllm": (
        400,
        '{"message": "\\"auto\\" tool choice requires --enable-auto-tool-choice"}',
        "stop",
        "started otherwise",
    ),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_other_servers_mean(name: str) -> None:
    status, text, kind, named = ELSEWHERE[name]
    action = judge(said(status, text), NAMES)
    assert action.kind == kind
    assert named in action.message
    assert action.rate_limited == (name == "bedrock")


def test_a_moderated_row_is_an_outcome_and_ends_nothing() -> None:
    text = '{"error": {"code": 403, "message": "m requires moderation. Your input was flagged for \\"violence\\"."}}'
    assert judge(said(403, text), NAMES).kind == "finished"
    answer = read(403, text)
    assert answer is not None
    assert answer.outcome == "content_filter"


@pytest.mark.parametrize(
    ("code", "error"),
    [("insufficient_quota", Unavailable), ("invalid_api_key", ConfigError), ("model_not_found", ConfigError)],
)
def test_a_code_inside_a_200_stops_as_its_status_does(code: str, error: type[Exception]) -> None:
    action = judge(said(200, json.dumps({"error": {"code": code, "message": "no"}})), NAMES)
    assert (action.kind, type(action.error)) == ("stop", error)


def test_an_error_inside_a_200_is_that_error() -> None:
    inside = said(200, '{"error": {"code": 429, "message": "upstream is busy"}}')
    assert judge(inside, NAMES).rate_limited
    assert judge(said(200, '{"error": {"code": 401, "message": "no key"}}'), NAMES).kind == "stop"
    assert judge(said(200, '{"error": {"message": "later"}}'), NAMES).kind == "transient"


def test_the_endpoints_words_are_one_short_line() -> None:
    text = json.dumps({"error": {"message": "a\nb\x1b[31m" + "c" * 5000}})
    message = judge(said(400, text), NAMES).message
    assert "\n" not in message
    assert "\x1b" not in message
    assert len(message) < 1000


@given(
    text=st.text()
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "error",
                        "message",
                        "code",
                        "type",
                        "param",
                        "detail",
                        "loc",
                        "choices",
                        "content",
                        "tool_calls",
                        "function",
                        "arguments",
                        "usage",
                        "innererror",
                        "finish_reason",
                    ]
                ),
                inner,
            )
        ),
    ).map(json.dumps),
    status=st.sampled_from([200, 204, 302, 400, 401, 403, 404, 413, 422, 429, 500, 503]),
)
def test_whatever_comes_is_judged(text: str, status: int) -> None:
    action = judge(said(status, text), NAMES)
    assert (action.error is not None) == (action.kind == "stop")
    read(status, text)


def test_a_400_of_unknown_reason_fails_its_row_only() -> None:
    assert judge(reply(400, message="hm"), NAMES).kind == "rejected"


def body(finish: str = "stop", **message: Any) -> str:
    return json.dumps(
        {"choices": [{"message": message, "finish_reason": finish}], "model": "m", "usage": {"prompt_tokens": True}}
    )


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "not JSON"}}


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (body(content="x"), "ok"),
        (body(content=" \n"), "empty"),
        (body(content=None), "empty"),
        (body(), "empty"),
        (body(content=None, tool_calls=[CALL]), "ok"),
        (body(content="", tool_calls=[]), "empty"),
        (body("length", content="x"), "length"),
        (body("content_filter", content=None), "content_filter"),
        (body(content=None, refusal="no"), "refusal"),
    ],
)
def test_outcomes(text: str, outcome: str) -> None:
    answer = read(200, text)
    assert answer is not None
    assert answer.outcome == outcome
    assert answer.usage == {}, "true is no number of tokens"


@pytest.mark.parametrize(
    "text",
    [body(content=3), body(content="x", tool_calls="f"), body(content="x", tool_calls=["f"]), "[]", "{}", "[" * 10**5],
)
def test_malformed_envelopes_are_no_answers(text: str) -> None:
    assert read(200, text) is None


def test_a_lone_surrogate_survives_to_the_prediction() -> None:
    record = {"status": 200, "body": '{"choices":[{"message":{"content":"\\ud800"}}]}', "latency_s": 1.0}
    assert prediction("r", "k", record).raw == "\ud800"


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return f"data: {json.dumps({'object': 'chat.completion.chunk', 'model': 'm', 'choices': choices} | more)}\n\n"


DONE = "data: [DONE]\n\n"
USAGE = {"prompt_tokens": 5, "completion_tokens": 2}


def test_a_stream_that_was_not_asked_for_is_its_reply() -> None:
    words = chunk({"role": "assistant", "content": ""}) + chunk({"content": "a "}) + chunk({"content": "b"}, "stop")
    answer = read(200, f": keep-alive\n\n{words}{chunk({}, None, choices=[], usage=USAGE)}{DONE}")
    assert answer is not None
    assert (answer.outcome, answer.raw, answer.usage, answer.model) == ("ok", "a b", USAGE, "m")
    named = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    calls = chunk({"tool_calls": [named]}) + chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]})
    calls += chunk({"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]})
    calls += chunk({"tool_calls": [{"index": 1, "function": {"name": "g", "arguments": "{}"}}]}, "tool_calls")
    answer = read(200, calls + DONE)
    assert answer is not None
    assert [call["function"] for call in answer.tool_calls or []] == [
        {"name": "f", "arguments": '{"a": 1}'},
        {"name": "g", "arguments": "{}"},
    ]
    assert judge(said(200, words + DONE), NAMES).kind == "finished"


@pytest.mark.parametrize(
    "text",
    [
        chunk({"content": "half"}),
        DONE,
        "data: x\n",
        "data: [1]\n" + DONE,
        'data: {"error": {"message": "no"}}\n' + DONE,
    ],
)
def test_a_stream_that_breaks_off_is_no_answer(text: str) -> None:
    action = judge(said(200, text), NAMES)
    assert (action.kind, action.billed != "no") == ("transient", True)


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 2}, USAGE),
        ({"prompt_tokens": "5", "completion_tokens": "2"}, USAGE),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, {}),
        ({"prompt_tokens": 5, "completion_tokens": 0}, {"prompt_tokens": 5}),
        ({"total_tokens": 7}, {}),
        (None, {}),
        ([], {}),
    ],
)
def test_a_count_of_no_tokens_is_no_count(usage: Any, counted: dict[str, int]) -> None:
    answer = read(200, json.dumps({"choices": [{"message": {"content": "hi"}}], "usage": usage}))
    assert answer is not None
    assert answer.usage == counted


def test_nothing_said_may_take_no_tokens() -> None:
    answer = read(
        200, json.dumps({"choices": [{"message": {"content": ""}}], "usage": USAGE | {"completion_tokens": 0}})
    )
    assert answer is not None
    assert answer.usage["completion_tokens"] == 0


@pytest.mark.parametrize(
    "calls",
    [
        {"function": {"name": "f", "arguments": "{}"}},
        '[{"function": {"name": "f", "arguments": "{}"}}]',
        [{"name": "f", "arguments": {}}],
        [{"type": "function", "name": "f", "arguments": "{}"}],
    ],
)
def test_calls_without_their_wrapping_are_calls(calls: Any) -> None:
    answer = read(200, body(content=None, tool_calls=calls))
    assert answer is not None
    assert [call["function"] for call in answer.tool_calls or []] == [{"name": "f", "arguments": "{}"}]


@pytest.mark.parametrize(
    ("choice", "outcome"),
    [
        ({"finish_reason": "content_filter"}, "content_filter"),
        ({"finish_reason": "length", "message": None}, "length"),
        ({"finish_reason": "stop", "message": {"content": ""}, "error": {"code": 502, "message": "upstream"}}, "error"),
        ({"finish_reason": "stop", "message": {"content": "half"}, "error": {"message": "upstream"}}, "error"),
        ({"finish_reason": "stop", "message": {"content": "whole"}, "error": None}, "ok"),
    ],
)
def test_a_choice_may_say_why_nothing_came(choice: dict[str, Any], outcome: str) -> None:
    text = json.dumps({"choices": [choice]})
    answer = read(200, text)
    assert answer is not None
    assert answer.outcome == outcome
    assert judge(said(200, text), NAMES).kind == ("transient" if outcome == "error" else "finished")


def test_calls_that_are_said_and_do_not_come_are_told() -> None:
    answer = read(200, body("tool_calls", content=None))
    assert answer is not None
    assert answer.outcome == "empty"
    assert "gives no call" in (answer.reason or "")


IN_CONTENT = {
    "Anthropic": {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
    "OpenAI's Responses": {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a": 1}'},
    "wrapped": {"type": "tool_call", "id": "c1", "function": {"name": "f", "arguments": {"a": 1}}},
    "Bedrock": {"toolUse": {"toolUseId": "c1", "name": "f", "input": {"a": 1}}},
    "Gemini": {"functionCall": {"name": "f", "args": {"a": 1}}},
}


@pytest.mark.parametrize("provider", IN_CONTENT)
@pytest.mark.parametrize("finish", ["stop", "tool_use"])
def test_a_call_among_the_parts_of_a_content_is_a_call(provider: str, finish: str) -> None:
    answer = read(200, body(finish, content=[{"type": "text", "text": "Let me look."}, IN_CONTENT[provider]]))
    assert answer is not None
    assert (answer.outcome, answer.raw) == ("ok", "Let me look.")
    (call,) = answer.tool_calls or []
    assert (call["type"], call["function"]) == ("function", {"name": "f", "arguments": '{"a": 1}'})
    assert call.get("id") == (None if provider == "Gemini" else "c1")
    alone = read(200, body(finish, content=[IN_CONTENT[provider]]))
    assert alone is not None
    assert (alone.outcome, alone.tool_calls) == ("ok", answer.tool_calls)


@pytest.mark.parametrize("key", ["args", "input", "parameters"])
def test_arguments_under_another_key_are_not_lost(key: str) -> None:
    for call in ({"name": "f", key: {"a": 1}}, {"type": "function", "function": {"name": "f", key: {"a": 1}}}):
        answer = read(200, body(content=None, tool_calls=[call]))
        assert answer is not None
        assert [made["function"] for made in answer.tool_calls or []] == [{"name": "f", "arguments": '{"a": 1}'}]
    answer = read(200, body(content=None, function_call='{"name": "f", "arguments": {"a": 1}}'))
    assert answer is not None
    assert [made["function"] for made in answer.tool_calls or []] == [{"name": "f", "arguments": '{"a": 1}'}]


def test_a_reply_in_several_choices_is_one_reply() -> None:
    words = {"index": 0, "message": {"content": "Let me look."}, "finish_reason": "tool_calls"}
    calls = {"index": 1, "message": {"content": None, "tool_calls": [CALL]}, "finish_reason": "tool_calls"}
    for listed in ([words, calls], [calls, words]):
        answer = read(200, json.dumps({"choices": listed}))
        assert answer is not None
        assert (answer.outcome, answer.raw, answer.tool_calls) == ("ok", "Let me look.", [CALL])
    others = [{"index": at, "message": {"content": said}, "finish_reason": "stop"} for at, said in ((1, "b"), (0, "a"))]
    answer = read(200, json.dumps({"choices": others}))
    assert answer is not None
    assert answer.raw == "a"


def test_parts_that_nobody_reads_are_named_and_one_part_may_be_no_list() -> None:
    answer = read(200, body(content=[{"type": "image_url", "image_url": {"url": "data:"}}]))
    assert answer is not None
    assert (answer.outcome, answer.reason) == ("empty", "all that came is parts of type image_url")
    answer = read(200, body("FinishReason.STOP", content={"type": "text", "text": "a"}))
    assert answer is not None
    assert (answer.outcome, answer.raw) == ("ok", "a")


def test_line_ends_inside_the_text_of_a_stream_are_text() -> None:
    said_ = "a\u2028b\u0085c\x0cd"
    event = json.dumps({"choices": [{"index": 0, "delta": {"content": said_}, "finish_reason": "stop"}]})
    for whole in (event, json.dumps(json.loads(event), ensure_ascii=False)):
        answer = read(200, f"data: {whole}\r\n\r\n{DONE}")
        assert answer is not None
        assert answer.raw == said_


def test_calls_of_a_stream_that_share_an_index_stay_apart() -> None:
    parts = [
        {"index": 0, "id": name, "type": "function", "function": {"name": name, "arguments": '{"a": 1}'}}
        for name in "fgh"
    ]
    answer = read(200, "".join(chunk({"tool_calls": [part]}) for part in parts) + chunk({}, "tool_calls") + DONE)
    assert answer is not None
    assert [call["function"]["name"] for call in answer.tool_calls or []] == ["f", "g", "h"]
    assert {call["function"]["arguments"] for call in answer.tool_calls or []} == {'{"a": 1}'}


def test_only_the_first_choice_of_a_stream_counts() -> None:
    other = chunk({}, None, choices=[{"index": 1, "delta": {"content": "b"}}])
    answer = read(200, other + chunk({"content": "a"}, "stop") + other + DONE)
    assert answer is not None
    assert answer.raw == "a"


@pytest.mark.parametrize("code", ["tool_use_failed", "json_validate_failed"])
def test_what_the_model_wrote_and_the_endpoint_refuses_is_its_answer(code: str) -> None:
    """Asked again it would say the same, and it was generated: it counts at its upper bound."""
    for wrote, outcome in (('<function=f>{"a":', "ok"), ("", "empty")):
        answer = reply(400, code=code, message="Failed to call a function.", failed_generation=wrote)
        action = judge(answer, NAMES)
        assert (action.kind, action.billed) == ("finished", "maybe")
        kept = prediction("r", "k", {"status": 400, "body": answer.text, "latency_s": 1.0})
        assert (kept.outcome, kept.raw, kept.reason) == (outcome, wrote, "Failed to call a function.")
    assert judge(reply(400, code=code, message="no"), NAMES).kind == "rejected"
