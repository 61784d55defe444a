//! Dates, times and instants in ISO forms; an instant without a zone is UTC.

use super::{InputError, Result, is_space};

/// Microseconds in a day.
pub const MICROS_PER_DAY: i64 = 86_400_000_000;
/// 2000-01-01, PostgreSQL's epoch, in days since 1970-01-01.
pub const PG_EPOCH_DAYS: i32 = 10_957;
/// PostgreSQL's epoch in microseconds since 1970-01-01.
pub const PG_EPOCH_MICROS: i64 = PG_EPOCH_DAYS as i64 * MICROS_PER_DAY;

/// Years that PostgreSQL's timestamps reach.
const YEARS: std::ops::RangeInclusive<i64> = -4712..=294_276;

/// Reads a text from left to right.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.rest.first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.rest.len() >= word.len()
            && self.rest[..word.len()].eq_ignore_ascii_case(word.as_bytes());
        if found {
            self.rest = &self.rest[word.len()..];
        }
        found
    }

    fn skip_spaces(&mut self) {
        while self.rest.first().is_some_and(|b| is_space(*b as char)) {
            self.rest = &self.rest[1..];
        }
    }

    fn next_is_digit(&self) -> bool {
        self.rest.first().is_some_and(u8::is_ascii_digit)
    }

    /// A number of `min` to `max` digits, at most nine.
    fn number(&mut self, min: usize, max: usize) -> Option<i64> {
        let count = self.rest.iter().take(max).take_while(|b| b.is_ascii_digit()).count();
        if count < min {
            return None;
        }
        let value = self.rest[..count].iter().fold(0, |n, b| n * 10 + i64::from(b - b'0'));
        self.rest = &self.rest[count..];
        Some(value)
    }
}

/// What went wrong, before it is put into words.
enum Bad {
    Syntax,
    Range,
    Infinity,
    Zone,
}

fn explain(bad: Bad, type_name: &str, text: &str) -> InputError {
    let shown = super::shorten(text);
    match bad {
        Bad::Syntax => InputError { code: "22007", ..InputError::syntax(type_name, text) },
        Bad::Range => {
            InputError::new("22008", format!("date/time field value out of range: \"{shown}\""))
        }
        Bad::Infinity => {
            InputError::new("22008", format!("\"{shown}\" is not supported for type {type_name}"))
        }
        Bad::Zone => InputError::new(
            "22007",
            format!(
                "time zone of \"{shown}\" is not recognized for type {type_name}; use an offset like +02 or UTC"
            ),
        ),
    }
}

/// Days since 1970-01-01.
pub fn date(text: &str) -> Result<i32> {
    let parts = parse(text).map_err(|bad| explain(bad, "date", text))?;
    i32::try_from(parts.days).map_err(|_| explain(Bad::Range, "date", text))
}

/// Microseconds since 1970-01-01 of a `timestamp`; a zone is ignored, as PostgreSQL does.
pub fn timestamp(text: &str) -> Result<i64> {
    let parts = parse(text).map_err(|bad| explain(bad, "timestamp", text))?;
    parts.micros(0).ok_or_else(|| explain(Bad::Range, "timestamp", text))
}

/// Microseconds since 1970-01-01 UTC of a `timestamptz`.
pub fn timestamptz(text: &str) -> Result<i64> {
    let name = "timestamp with time zone";
    let parts = parse(text).map_err(|bad| explain(bad, name, text))?;
    parts.micros(parts.offset_seconds).ok_or_else(|| explain(Bad::Range, name, text))
}

/// Microseconds since midnight.
pub fn time(text: &str) -> Result<i64> {
    let mut cursor = Cursor { rest: text.trim_matches(is_space).as_bytes() };
    let value = clock(&mut cursor).map_err(|bad| explain(bad, "time", text))?;
    match cursor.rest {
        [] => Ok(value),
        _ => Err(explain(Bad::Syntax, "time", text)),
    }
}

struct Parts {
    days: i64,
    micros_of_day: i64,
    offset_seconds: i64,
}

impl Parts {
    fn micros(&self, offset_seconds: i64) -> Option<i64> {
        self.days
            .checked_mul(MICROS_PER_DAY)?
            .checked_add(self.micros_of_day)?
            .checked_sub(offset_seconds * 1_000_000)
    }
}

fn parse(text: &str) -> Result<Parts, Bad> {
    let word = text.trim_matches(is_space);
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    if ["infinity", "inf"].iter().any(|s| unsigned.eq_ignore_ascii_case(s)) {
        return Err(Bad::Infinity);
    }
    if word.eq_ignore_ascii_case("epoch") {
        return Ok(Parts { days: 0, micros_of_day: 0, offset_seconds: 0 });
    }
    let mut cursor = Cursor { rest: word.as_bytes() };
    let (mut year, month, day) = calendar(&mut cursor)?;
    let mut micros_of_day = 0;
    let separated = cursor.eat(b'T') || cursor.eat(b't') || {
        let before = cursor.rest.len();
        cursor.skip_spaces();
        cursor.rest.len() < before
    };
    if separated && cursor.next_is_digit() {
        micros_of_day = clock(&mut cursor)?;
    }
    cursor.skip_spaces();
    let offset_seconds = zone(&mut cursor)?;
    cursor.skip_spaces();
    if cursor.eat_word("BC") {
        year = 1 - year;
    } else {
        cursor.eat_word("AD");
    }
    match cursor.rest {
        [] => {}
        [first, ..] if first.is_ascii_alphabetic() && separated => return Err(Bad::Zone),
        _ => return Err(Bad::Syntax),
    }
    if !YEARS.contains(&year) || day > days_in_month(year, month) {
        return Err(Bad::Range);
    }
    Ok(Parts { days: days_from_civil(year, month, day), micros_of_day, offset_seconds })
}

fn calendar(cursor: &mut Cursor<'_>) -> Result<(i64, i64, i64), Bad> {
    let digits = cursor.rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let (year, month, day);
    if digits == 8 {
        year = cursor.number(4, 4).ok_or(Bad::Syntax)?;
        month = cursor.number(2, 2).ok_or(Bad::Syntax)?;
        day = cursor.number(2, 2).ok_or(Bad::Syntax)?;
    } else {
        year = cursor.number(4, 6).ok_or(Bad::Syntax)?;
        let separator = if cursor.eat(b'-') {
            b'-'
        } else if cursor.eat(b'/') {
            b'/'
        } else {
            return Err(Bad::Syntax);
        };
        month = cursor.number(1, 2).ok_or(Bad::Syntax)?;
        if !cursor.eat(separator) {
            return Err(Bad::Syntax);
        }
        day = cursor.number(1, 2).ok_or(Bad::Syntax)?;
    }
    match (year, month, day) {
        (1.., 1..=12, 1..=31) => Ok((year, month, day)),
        _ => Err(Bad::Range),
    }
}

/// `HH:MM[:SS[.ffffff]]` or `HHMM[SS]`, in microseconds; seconds round to six places.
fn clock(cursor: &mut Cursor<'_>) -> Result<i64, Bad> {
    let hour = cursor.number(1, 2).ok_or(Bad::Syntax)?;
    let colon = cursor.eat(b':');
    let minute = cursor.number(2, 2).ok_or(Bad::Syntax)?;
    let mut second = 0;
    let mut micros = 0;
    if (colon && cursor.eat(b':')) || (!colon && cursor.next_is_digit()) {
        second = cursor.number(2, 2).ok_or(Bad::Syntax)?;
        if cursor.eat(b'.') {
            micros = fraction(cursor);
        }
    }
    let total = ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros;
    if hour > 24 || minute > 59 || second > 60 || total > MICROS_PER_DAY {
        return Err(Bad::Range);
    }
    Ok(total)
}

fn fraction(cursor: &mut Cursor<'_>) -> i64 {
    let mut micros = 0;
    let mut unit = 100_000;
    let mut place = 0;
    while let Some(digit) = cursor.number(1, 1) {
        micros += digit * unit;
        unit /= 10;
        if place == 6 && digit >= 5 {
            micros += 1;
        }
        place += 1;
    }
    micros
}

/// The offset east of UTC in seconds; no zone is UTC.
fn zone(cursor: &mut Cursor<'_>) -> Result<i64, Bad> {
    if ["utc", "gmt", "zulu", "z"].iter().any(|name| cursor.eat_word(name)) {
        return Ok(0);
    }
    let sign = if cursor.eat(b'+') {
        1
    } else if cursor.eat(b'-') {
        -1
    } else {
        return Ok(0);
    };
    let hours = cursor.number(1, 2).ok_or(Bad::Syntax)?;
    let colon = cursor.eat(b':');
    let more = colon || cursor.next_is_digit();
    let minutes = if more { cursor.number(2, 2).ok_or(Bad::Syntax)? } else { 0 };
    let seconds =
        if more && cursor.eat(b':') { cursor.number(2, 2).ok_or(Bad::Syntax)? } else { 0 };
    if hours > 15 || minutes > 59 || seconds > 59 {
        return Err(Bad::Range);
    }
    Ok(sign * ((hours * 60 + minutes) * 60 + seconds))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, by Howard Hinnant's formula.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: i64 = 1_357_035_300_000_000; // 2013-01-01 10:15:00 UTC

    #[test]
    fn instants() {
        for text in [
            "2013-01-01 10:15:00",
            "2013-01-01 10:15",
            "2013-01-01T10:15:00Z",
            " 2013-1-1 10:15:00 UTC ",
            "2013-01-01 12:15:00+02",
            "2013-01-01T12:15:00+02:00",
            "2013-01-01 05:45:00 -0430",
            "20130101T101500",
            "2013/01/01 10:15:00.000000",
            "2013-01-01 10:14:60",
        ] {
            assert_eq!(timestamptz(text), Ok(T), "{text}");
        }
        assert_eq!(timestamptz("2013-01-01 10:15:00.1234567"), Ok(T + 123_457));
        assert_eq!(timestamptz("2013-01-01 10:15:00.9999995"), Ok(T + 1_000_000));
        assert_eq!(timestamp("2013-01-01 10:15:00+02"), Ok(T));
        assert_eq!(timestamptz("epoch"), Ok(0));
        assert_eq!(timestamptz("1969-12-31 23:59:59.5"), Ok(-500_000));
        assert_eq!(timestamptz("2012-12-31 24:00:00"), timestamptz("2013-01-01"));
    }

    #[test]
    fn dates() {
        assert_eq!(date("1970-01-01"), Ok(0));
        assert_eq!(date("2000-02-29"), Ok(11_016));
        assert_eq!(date("0044-03-15 BC"), Ok(-735_160));
        assert_eq!(date("2013-01-01 10:00:00"), Ok(15_706));
    }

    #[test]
    fn refused() {
        for (text, code) in [
            ("", "22007"),
            ("x", "22007"),
            ("2013-01", "22007"),
            ("2013-01-01 10", "22007"),
            ("2013-01-01 1015:", "22007"),
            ("01.02.2013", "22007"),
            ("2013-01-01 10:15 Europe/Berlin", "22007"),
            ("2013-13-01", "22008"),
            ("2013-02-29", "22008"),
            ("2013-01-01 25:00", "22008"),
            ("2013-01-01 24:00:01", "22008"),
            ("0000-01-01", "22008"),
            ("400000-01-01", "22008"),
            ("2013-01-01 10:00+99", "22008"),
            ("infinity", "22008"),
            ("-inf", "22008"),
        ] {
            assert_eq!(timestamptz(text).unwrap_err().code, code, "{text}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(time("10:15:00.5"), Ok(36_900_500_000));
        assert_eq!(time("24:00"), Ok(MICROS_PER_DAY));
        assert!(time("10:15 x").is_err());
    }
}
