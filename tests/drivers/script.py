"""Reads script.json, which every driver runs, and writes Python's values as PostgreSQL's text.

A step is one of
  statement  SQL, with `count` if it says how many rows it wrote
  query      SQL that answers `columns`, each a name and a type, with `rows`; or with text that
             `contains` something
  copy       COPY … FROM STDIN, with the lines of its `data` and `count`
  error      SQL (a COPY if it has `data`) that fails with `sqlstate`, and a message that
             `contains` something; the connection goes on
All but COPY may have `params`: pairs of a type and a text, a list of texts for arrays.
"""
import datetime as dt
import json
import struct
from decimal import Decimal
from pathlib import Path

# Of each type: its name on the wire, the class of its values, and how a text becomes one.
TYPES = {
    "BOOLEAN": ("bool", bool, lambda text: text == "t"),
    "SMALLINT": ("int2", int, int),
    "INTEGER": ("int4", int, int),
    "BIGINT": ("int8", int, int),
    "REAL": ("float4", float, float),
    "DOUBLE PRECISION": ("float8", float, float),
    "NUMERIC": ("numeric", Decimal, Decimal),
    "TEXT": ("text", str, str),
    "VARCHAR": ("text", str, str),
    "DATE": ("date", dt.date, dt.date.fromisoformat),
    "TIMESTAMP": ("timestamp", dt.datetime, dt.datetime.fromisoformat),
    "TIMESTAMPTZ": ("timestamptz", dt.datetime, dt.datetime.fromisoformat),
}


class Step:
    """One step; what it does not have is None."""

    def __init__(self, fields):
        self.kind = next(k for k in ("statement", "query", "copy", "error") if k in fields)
        sql = fields[self.kind]
        self.sql = sql if isinstance(sql, str) else "\n".join(sql)
        self.params = fields.get("params", [])
        self.count = fields.get("count")
        self.columns = [c.split(" ", 1) for c in fields["columns"]] if "columns" in fields else None
        self.rows = fields.get("rows")
        self.contains = fields.get("contains")
        self.data = "".join(line + "\n" for line in fields["data"]) if "data" in fields else None
        self.sqlstate = fields.get("sqlstate")

    def values(self):
        """The parameters as Python's values."""
        return [value_of(declared, text) for declared, text in self.params]

    def same(self, what, got, expected):
        assert got == expected, f"{self.sql}\n{what}:     {got}\nexpected: {expected}"

    def check_types(self, what, got, declared):
        self.same(what, got, [wire_name(d) for d in declared])

    def check_rows(self, names, rows):
        """Compares an answer whose cells are texts."""
        if self.rows is None:
            self.check_text("\n".join(cell or "" for row in rows for cell in row))
            return
        self.same("columns", names, [name for name, _ in self.columns])
        self.same("rows", rows, self.rows)

    def check_values(self, names, rows):
        """Compares an answer whose cells are Python's values."""
        if self.columns is None:
            self.check_rows(names, [[None if v is None else str(v) for v in row] for row in rows])
            return
        types = [declared for _, declared in self.columns]
        texts = [[text_of(t, v) for t, v in zip(types, row, strict=True)] for row in rows]
        self.check_rows(names, texts)

    def check_text(self, got):
        assert (self.contains or "") in got, f"{self.sql}\n{self.contains} is not in:\n{got}"

    def check_error(self, sqlstate, message):
        self.same("SQLSTATE", sqlstate, self.sqlstate)
        self.check_text(message)


def steps():
    script = json.loads((Path(__file__).parent / "script.json").read_text(encoding="utf-8"))
    return [Step(fields) for fields in script["steps"]]


def base(declared):
    """The type without its precision."""
    return declared.split("(")[0]


def wire_name(declared):
    element = declared.removesuffix("[]")
    name = TYPES[base(element)][0]
    return name if element == declared else f"{name}[]"


def value_of(declared, text):
    """Python's value of PostgreSQL's text."""
    if text is None:
        return None
    if declared.endswith("[]"):
        return [value_of(declared.removesuffix("[]"), element) for element in text]
    return TYPES[base(declared)][2](text)


def text_of(declared, value):
    """PostgreSQL's text of Python's value, which has to be of the class that the type has."""
    if value is None:
        return None
    expected = TYPES[declared][1]
    assert type(value) is expected, f"{value!r} of {declared} is no {expected}"
    match value:
        case bool():
            return "t" if value else "f"
        case float():
            return float_text(single(value) if declared == "REAL" else repr(value))
        case Decimal():
            return format(value, "f")
        case dt.datetime():
            assert (value.utcoffset() is not None) == (declared == "TIMESTAMPTZ"), value
            utc = value.astimezone(dt.timezone.utc) if value.tzinfo else value
            fraction = f".{utc.microsecond:06}".rstrip("0") if utc.microsecond else ""
            whole = utc.replace(microsecond=0, tzinfo=None).isoformat(" ")
            return whole + fraction + ("+00" if value.tzinfo else "")
        case _:
            return str(value)


def single(value):
    """The shortest digits that give this value of REAL."""
    packed = struct.pack("f", value)
    digits = (f"{value:.{count}g}" for count in range(1, 10))
    return next((d for d in digits if struct.pack("f", float(d)) == packed), repr(value))


def float_text(digits):
    """From Python's notation, which differs for values without a fraction; from 1e15 to 1e16,
    and for REAL from 1e6, it does so in the exponent, too: the script has no such values."""
    return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(digits, digits.removesuffix(".0"))
