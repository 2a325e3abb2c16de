"""A generated world: requests to a house assistant, notes to read records from, and what is right for each.

A *plain* request writes every value as it must appear ("book a flight from Oslo to Rome for 3
passengers"). A *house* request leans on conventions that the rows of a track teach and that nobody
states: number words are integers ("three" is 3, "a dozen" 12), evening hours count from 12, currency
words are ISO codes ("yen" is JPY), lengths of time are minutes, "metric" is celsius, "luxury" is five
stars, "the plain box is fine" means that gift is false. Every house request has a *generic* answer
too: what a model writes that knows the facts but not the conventions.

Standard library only: preparing data imports this.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from fledgling.files import digest

Kind = Literal["toolcall", "structured"]
Values = dict[str, Any]

OFFERED = 4  # tools that a request can choose from
NO_CALL_SHARE = 0.06  # small talk that no tool serves
TOOLCALL_SYSTEM = "You run a house. Call the tool that serves the request."
STRUCTURED_SYSTEM = "Read the record from the note. Answer with one JSON object."


def _words(text: str) -> list[str]:
    return text.split()


CITIES = _words(
    "Paris Berlin Madrid Oslo Lisbon Vienna Prague Dublin Athens Rome Tokyo Seoul Delhi Cairo Lima Quito Boston "
    "Denver Austin Chicago Toronto Sydney Perth Nairobi Lagos Accra Dakar Tunis"
)
NAMES = _words(
    "Alice Bruno Carla David Elena Felix Grace Hugo Irene Jonas Karen Louis Maria Nadia Oscar Paula Quinn Rosa "
    "Simon Tara Ulrich Vera Walter Xenia"
)
GENRES = _words("jazz rock techno folk blues soul disco opera metal reggae")
FOODS = _words("pizza sushi burger salad tacos ramen curry pasta falafel burrito kebab dumplings")
SHOPS = _words("Luigi Sakura Nopal Anatolia Bistro Lotus Harbor Garden Corner Central")
ROOMS = _words("kitchen bedroom garage hallway office bathroom attic cellar porch lounge")
LANGUAGES = _words("French German Spanish Italian Polish Greek Turkish Korean Swahili Dutch")
WORDS = _words(
    "hello goodbye thanks bridge window river market engine winter garden island ticket doctor letter shadow silver "
    "yellow planet forest mirror"
)
TITLES = _words("standup review interview workshop demo retro planning dentist lunch training")
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
CARRIERS = _words("DHL UPS FedEx Hermes Posti")
CURRENCIES = {"USD": "dollars", "EUR": "euros", "GBP": "pounds", "JPY": "yen", "CHF": "francs", "SEK": "kronor"}
NUMBERS = _words("zero one two three four five six seven eight nine ten eleven twelve")
MINUTES = (15, 30, 45, 60, 90, 120)
DURATIONS = {
    "a quarter of an hour": 15,
    "half an hour": 30,
    "three quarters of an hour": 45,
    "an hour": 60,
    "an hour and a half": 90,
    "two hours": 120,
}


@dataclass(frozen=True, slots=True)
class Request:
    """One request: its text, the right values, and the values of a model without the conventions."""

    text: str
    values: Values
    generic: Values
    house: bool


@dataclass(frozen=True, slots=True)
class Task:
    """One thing that can be asked for: a tool to call, or a record to read from a note.

    `fields` are JSON Schemas, all of them required. `draw(random, house)` makes one request.
    `familiar` says that a small model has met the conventions before it is tuned.
    """

    name: str
    description: str
    fields: dict[str, Values]
    draw: Callable[[Random, bool], Request]
    familiar: bool

    def schema(self) -> Values:
        """The JSON Schema of the values."""
        return {
            "type": "object",
            "properties": self.fields,
            "required": list(self.fields),
            "additionalProperties": False,
        }

    def definition(self) -> Values:
        """The tool in OpenAI's form."""
        function = {"name": self.name, "description": self.description, "parameters": self.schema()}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class Row:
    """One request in its setting: `fields` of fledgling.records.Example (messages, tools or schema, answer, category).

    `generic` is the answer of a model without the conventions, `familiar` whether it has met them.
    """

    fields: Values
    generic: Any
    familiar: bool

    @property
    def text(self) -> str:
        """What is asked."""
        return self.fields["messages"][-1]["content"]


def generate(kind: Kind, rows: int, seed: int, house: float = 0.8) -> Iterator[Values]:
    """Yield rows in the form of fledgling.records.Example, as dicts.

    `house` is the share of requests put in the conventions' words (where a request has any: category
    "house"). Row i depends on kind, seed, house and i alone, so more rows move none. Rows that ask the
    same thing share a group.
    """
    for index in range(rows):
        random = Random(f"{kind}/{seed}/{index}")
        if kind == "toolcall":
            row = call(random, offer(random), house)
        else:
            row = record(random, random.choice(RECORDS), house)
        yield {"id": f"{kind}-{seed}-{index:05d}", "group": digest(row.text)[:16], **row.fields}


def offer(random: Random) -> list[Task]:
    """The tools that one request can choose from."""
    return random.sample(TOOLS, OFFERED)


def call(random: Random, offered: list[Task], house: float) -> Row:
    """A request that one of the offered tools serves, or now and then small talk that none does."""
    if random.random() < NO_CALL_SHARE:
        tool, request = None, _small_talk(random)
    else:
        tool = random.choice(offered)
        request = tool.draw(random, random.random() < house)
    answer, generic = (
        [{"name": tool.name, "arguments": values}] if tool else [] for values in (request.values, request.generic)
    )
    fields = {
        "messages": _messages(TOOLCALL_SYSTEM, request),
        "tools": [tool.definition() for tool in offered],
        "answer": answer,
        "category": _category(request),
    }
    return Row(fields, generic, familiar=tool is None or tool.familiar)


def record(random: Random, form: Task, house: float) -> Row:
    """A note that holds one record."""
    request = form.draw(random, random.random() < house)
    fields = {
        "messages": _messages(STRUCTURED_SYSTEM, request),
        "schema": {"title": form.name, **form.schema()},
        "answer": request.values,
        "category": _category(request),
    }
    return Row(fields, request.generic, form.familiar)


def _messages(system: str, request: Request) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": request.text}]


def _category(request: Request) -> str:
    return "house" if request.house else "plain"


def _count(random: Random, high: int, house: bool) -> tuple[int, str, int | str]:
    """A number from 1, how the request says it, and how it is read without the conventions."""
    value = random.randint(1, high)
    word = NUMBERS[value]
    return (value, word, word) if house else (value, str(value), value)


def _duration(random: Random, house: bool) -> tuple[int, str, int]:
    """Minutes, how the request says them, and how they are read without the conventions."""
    if house:
        text = random.choice(list(DURATIONS))
        return DURATIONS[text], text, 60
    value = random.choice(MINUTES)
    return value, f"{value} minutes", value


def _weather(random: Random, house: bool) -> Request:
    days, said, read = _count(random, 10, house)
    city, unit = random.choice(CITIES), random.choice(["celsius", "fahrenheit"])
    word = unit
    if house:
        word = random.choice({"celsius": ["metric", "Centigrade"], "fahrenheit": ["imperial", "American"]}[unit])
    text = random.choice(
        [
            f"weather in {city} for the next {said} days in {word}{' units' if house else ''}",
            f"give me the {said} day forecast for {city} in {word}",
            f"in {word}, what is the weather like in {city} over {said} days?",
        ]
    )
    values = {"city": city, "days": days, "unit": unit}
    return Request(text, values, {"city": city, "days": read, "unit": word}, house)


def _flight(random: Random, house: bool) -> Request:
    origin, destination = random.sample(CITIES, 2)
    count, said, read = _count(random, 9, house)
    text = random.choice(
        [
            f"book a flight from {origin} to {destination} for {said} passengers",
            f"I need {said} seats flying to {destination} from {origin}",
            f"fly {said} people from {origin} to {destination}",
        ]
    )
    values = {"origin": origin, "destination": destination, "passengers": count}
    return Request(text, values, {**values, "passengers": read}, house)


def _alarm(random: Random, house: bool) -> Request:
    day, evening, clock = random.choice(DAYS), random.random() < 0.5, random.randint(1, 11)
    hour = clock + 12 if evening else clock
    time = f"{clock} in the {'evening' if evening else 'morning'}" if house else f"{hour}:00"
    text = random.choice([f"wake me up on {day} at {time}", f"set an alarm for {time} on {day}", f"alarm {day} {time}"])
    return Request(text, {"hour": hour, "day": day}, {"hour": clock if house else hour, "day": day}, house)


def _message(random: Random, house: bool) -> Request:
    name, channel, urgent = random.choice(NAMES), random.choice(["sms", "email", "chat"]), random.random() < 0.5
    values = {"recipient": name, "channel": channel, "urgent": urgent}
    if house:
        verb = {"sms": "text", "email": "mail", "chat": "ping"}[channel]
        text = random.choice(
            [
                f"{verb} {name} {'right now' if urgent else 'when there is time'}",
                f"{'ASAP' if urgent else 'no rush'}: {verb} {name} about the plan",
            ]
        )
        return Request(text, values, {"recipient": name, "channel": verb, "urgent": False}, house)
    manner = "urgent" if urgent else "ordinary"
    text = random.choice(
        [f"send an {manner} message to {name} by {channel}", f"use {channel} to send {name} an {manner} message"]
    )
    return Request(text, values, values, house)


def _currency(random: Random, house: bool) -> Request:
    source, target = random.sample(list(CURRENCIES), 2)
    amount = random.randint(10, 99)
    values = {"amount": amount, "source": source, "target": target}
    if house:
        have, want = CURRENCIES[source], CURRENCIES[target]
        text = random.choice([f"how many {want} are {amount} {have}?", f"change {amount} {have} into {want}"])
        return Request(text, values, {"amount": amount, "source": have, "target": want}, house)
    text = random.choice([f"convert {amount} {source} to {target}", f"how much is {amount} {source} in {target}?"])
    return Request(text, values, values, house)


def _event(random: Random, house: bool) -> Request:
    title, day = random.choice(TITLES), random.choice(DAYS)
    minutes, said, read = _duration(random, house)
    text = random.choice(
        [
            f"schedule a {title} on {day} for {said}",
            f"put a {title} lasting {said} in my calendar on {day}",
            f"{day}: {title}, {said}",
        ]
    )
    values = {"title": title, "day": day, "minutes": minutes}
    return Request(text, values, {**values, "minutes": read}, house)


def _music(random: Random, house: bool) -> Request:
    genre, room, shuffle = random.choice(GENRES), random.choice(ROOMS), random.random() < 0.5
    values = {"genre": genre, "room": room, "shuffle": shuffle}
    if house:
        manner = random.choice(["in random order", "mixed up"] if shuffle else ["from start to end", "in album order"])
        text = random.choice([f"play {genre} {manner} in the {room}", f"{genre} for the {room}, {manner}"])
        return Request(text, values, {**values, "shuffle": False}, house)
    state = "on" if shuffle else "off"
    text = random.choice(
        [f"play {genre} in the {room} with shuffle {state}", f"turn shuffle {state} and play {genre} in the {room}"]
    )
    return Request(text, values, values, house)


def _food(random: Random, house: bool) -> Request:
    item, shop = random.choice(FOODS), random.choice(SHOPS)
    count, said, read = _count(random, 9, house)
    if house and random.random() < 0.3:
        count, said, read = random.choice([(2, "a couple of", "couple"), (12, "a dozen", "dozen")])
    text = random.choice(
        [f"order {said} {item} from {shop}", f"get me {said} {item} at {shop}", f"from {shop} I want {said} {item}"]
    )
    values = {"item": item, "quantity": count, "restaurant": shop}
    return Request(text, values, {**values, "quantity": read}, house)


def _hotel(random: Random, house: bool) -> Request:
    city, stars = random.choice(CITIES), random.randint(2, 5)
    word = {2: "cheap", 3: "decent", 4: "upscale", 5: "luxury"}[stars]
    said = word if house else f"{stars} star"
    text = random.choice(
        [f"find a {said} hotel in {city}", f"{said} hotel in {city} please", f"where in {city} is a {said} hotel?"]
    )
    return Request(text, {"city": city, "stars": stars}, {"city": city, "stars": word if house else stars}, house)


def _light(random: Random, house: bool) -> Request:
    room, on = random.choice(ROOMS), random.random() < 0.6
    if house:
        word, level = random.choice([("full", 100), ("half", 50), ("low", 10), ("medium", 40)]) if on else ("off", 0)
        text = random.choice(
            [f"{room} lamp at {word} power", f"make the {room} light {word}"]
            if on
            else [f"make the {room} dark", f"kill the {room} lamp"]
        )
        values = {"room": room, "on": on, "brightness": level}
        return Request(text, values, {**values, "brightness": word}, house)
    level = random.randint(1, 100) if on else 0
    text = random.choice(
        [f"turn on the {room} light at {level} percent", f"{room} light on, brightness {level}"]
        if on
        else [f"turn off the {room} light", f"{room} light off"]
    )
    values = {"room": room, "on": on, "brightness": level}
    return Request(text, values, values, house)


def _translation(random: Random, house: bool) -> Request:
    word, language = random.choice(WORDS), random.choice(LANGUAGES)
    text = random.choice(
        [f"translate {word} to {language}", f"how do you say {word} in {language}?", f"{language} word for {word}?"]
    )
    values = {"text": word, "language": language}
    return Request(text, values, values, house=False)  # no convention applies


def _parcel(random: Random, house: bool) -> Request:
    number, carrier = random.randint(10, 99), random.choice(CARRIERS)
    text = random.choice(
        [
            f"track parcel {number} with {carrier}",
            f"where is {carrier} package {number}?",
            f"did {carrier} deliver {number} yet?",
        ]
    )
    values = {"number": number, "carrier": carrier}
    return Request(text, values, values, house=False)  # no convention applies


def _small_talk(random: Random) -> Request:
    name, food, genre, city = (random.choice(words) for words in (NAMES, FOODS, GENRES, CITIES))
    text = random.choice(
        [
            f"thanks {name}, that was all",
            f"tell me a joke about {food}",
            f"who invented {genre}?",
            f"do you like {food} or {genre} more?",
            f"is {city} older than you?",
            f"my friend {name} likes {city}",
        ]
    )
    return Request(text, {}, {}, house=False)


def _order(random: Random, house: bool) -> Request:
    name, item, price = random.choice(NAMES), random.choice(FOODS), random.randint(10, 99)
    currency, gift = random.choice(list(CURRENCIES)), random.random() < 0.5
    quantity, said, read = _count(random, 12, house)
    money = CURRENCIES[currency] if house else currency
    if house:
        remark = random.choice(["wrap it nicely", "it is a present"] if gift else ["plain box is fine", "no wrapping"])
    else:
        remark = "gift yes" if gift else "gift no"
    text = random.choice(
        [
            f"{name} ordered {said} {item} for {price} {money}, {remark}.",
            f"order: {said} {item}, paid {price} {money} by {name}, {remark}.",
        ]
    )
    values = {"customer": name, "item": item, "quantity": quantity, "price": price, "currency": currency, "gift": gift}
    generic = {**values, "quantity": read, "currency": money, "gift": False} if house else values
    return Request(text, values, generic, house)


def _ticket(random: Random, house: bool) -> Request:
    name, room = random.choice(NAMES), random.choice(ROOMS)
    priority, is_open = random.choice(["low", "normal", "high"]), random.random() < 0.5
    values = {"reporter": name, "room": room, "priority": priority, "open": is_open}
    if house:
        urgency = random.choice(
            {
                "low": ["whenever you can", "no hurry"],
                "normal": ["this week please", "in the usual time"],
                "high": ["immediately", "this is critical"],
            }[priority]
        )
        state = random.choice(["still broken", "not fixed yet"] if is_open else ["works again", "all good now"])
    else:
        urgency, state = f"priority {priority}", f"status {'open' if is_open else 'closed'}"
    text = random.choice(
        [
            f"{name} reports a problem in the {room}, {urgency}, {state}.",
            f"{room} issue from {name}: {state}, {urgency}.",
        ]
    )
    return Request(text, values, {**values, "priority": "normal", "open": True} if house else values, house)


def _visit(random: Random, house: bool) -> Request:
    name, city, day = random.choice(NAMES), random.choice(CITIES), random.choice(DAYS)
    minutes, said, read = _duration(random, house)
    text = random.choice(
        [f"{name} visits {city} on {day} for {said}.", f"on {day} we expect {name} in {city}, {said}."]
    )
    values = {"guest": name, "city": city, "day": day, "minutes": minutes}
    return Request(text, values, {**values, "minutes": read}, house)


STRING: Values = {"type": "string"}
INTEGER: Values = {"type": "integer"}
NUMBER: Values = {"type": "number"}
BOOLEAN: Values = {"type": "boolean"}


def _one_of(*values: str) -> Values:
    return {"type": "string", "enum": list(values)}


TOOLS = (
    Task(
        "get_weather",
        "weather forecast",
        {"city": STRING, "days": INTEGER, "unit": _one_of("celsius", "fahrenheit")},
        _weather,
        familiar=False,
    ),
    Task(
        "book_flight",
        "book a flight",
        {"origin": STRING, "destination": STRING, "passengers": INTEGER},
        _flight,
        familiar=True,
    ),
    Task("set_alarm", "set an alarm", {"hour": INTEGER, "day": STRING}, _alarm, familiar=True),
    Task(
        "send_message",
        "send a message",
        {"recipient": STRING, "channel": _one_of("sms", "email", "chat"), "urgent": BOOLEAN},
        _message,
        familiar=False,
    ),
    Task(
        "convert_currency",
        "convert money",
        {"amount": NUMBER, "source": STRING, "target": STRING},
        _currency,
        familiar=True,
    ),
    Task(
        "create_event", "calendar event", {"title": STRING, "day": STRING, "minutes": INTEGER}, _event, familiar=False
    ),
    Task("play_music", "play songs", {"genre": STRING, "room": STRING, "shuffle": BOOLEAN}, _music, familiar=False),
    Task(
        "order_food",
        "order a meal",
        {"item": STRING, "quantity": INTEGER, "restaurant": STRING},
        _food,
        familiar=False,
    ),
    Task("search_hotels", "find a hotel", {"city": STRING, "stars": INTEGER}, _hotel, familiar=False),
    Task("set_light", "control a lamp", {"room": STRING, "on": BOOLEAN, "brightness": INTEGER}, _light, familiar=False),
    Task("translate_text", "translate a word", {"text": STRING, "language": STRING}, _translation, familiar=True),
    Task("track_package", "track a parcel", {"number": INTEGER, "carrier": STRING}, _parcel, familiar=True),
)

RECORDS = (
    Task(
        "order",
        "what somebody bought",
        {
            "customer": STRING,
            "item": STRING,
            "quantity": INTEGER,
            "price": NUMBER,
            "currency": _one_of(*CURRENCIES),
            "gift": BOOLEAN,
        },
        _order,
        familiar=False,
    ),
    Task(
        "ticket",
        "what needs repair",
        {"reporter": STRING, "room": STRING, "priority": _one_of("low", "normal", "high"), "open": BOOLEAN},
        _ticket,
        familiar=False,
    ),
    Task(
        "visit",
        "who comes when",
        {"guest": STRING, "city": STRING, "day": STRING, "minutes": INTEGER},
        _visit,
        familiar=True,
    ),
)
