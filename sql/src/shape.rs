//! The shape of a query's text: texts that differ only in the keys they ask for have one shape, so
//! that one plan does for all of them.
//!
//! Only literals right of `=` and in `IN (…)`, in a `WHERE` clause, become parameters: elsewhere a
//! literal may name a column or decide a type. A text that is not surely understood has no shape;
//! what a shape means is for the parser to say. sqlparser's tokens have no offsets into the text,
//! and making them costs as much as the lookup.

use std::borrow::Cow;

/// A query's text with `$1`, `$2`, … in the places of literals.
#[derive(Debug, PartialEq, Eq)]
pub struct Shape<'a> {
    /// The text.
    pub text: String,
    /// What stood in the places, `$1` first.
    pub literals: Vec<Literal<'a>>,
}

/// A literal that a parameter stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum Literal<'a> {
    /// Digits.
    Integer(&'a str),
    /// What was quoted.
    Text(Cow<'a, str>),
}

impl Literal<'_> {
    /// The literal as the text of a parameter.
    pub fn as_str(&self) -> &str {
        match self {
            Literal::Integer(digits) => digits,
            Literal::Text(text) => text,
        }
    }
}

/// More digits are no 64-bit integer.
const DIGITS_MAX: usize = 19;

/// The shape of a text that is one `SELECT`. `None` if it is something else, has parameters or
/// comments, or quotes in a way of its own.
pub fn shape(sql: &str) -> Option<Shape<'_>> {
    let sql = sql.trim().trim_end_matches(';');
    let starts = sql.as_bytes().get(..6)?.eq_ignore_ascii_case(b"select");
    if !starts {
        return None;
    }
    Scanner { sql, at: 0, copied: 0, text: String::with_capacity(sql.len()), literals: Vec::new() }
        .scan()
}

struct Scanner<'a> {
    sql: &'a str,
    at: usize,
    /// How much of `sql` is in `text`.
    copied: usize,
    text: String,
    literals: Vec<Literal<'a>>,
}

/// What is known of a pair of parentheses.
#[derive(Clone, Copy, Default)]
struct Level {
    /// After `WHERE` and before what follows that clause.
    in_where: bool,
    /// The list of an `IN`.
    in_list: bool,
}

impl<'a> Scanner<'a> {
    fn scan(mut self) -> Option<Shape<'a>> {
        let bytes = self.sql.as_bytes();
        let mut outer: Vec<Level> = Vec::new();
        let mut level = Level::default();
        // Whether a literal that stands here is compared with something, and whether IN came last.
        let (mut compared, mut after_in) = (false, false);
        while let Some(&byte) = bytes.get(self.at) {
            if byte.is_ascii_whitespace() {
                self.at += 1;
                continue;
            }
            let (was_compared, was_in) = (compared, after_in);
            (compared, after_in) = (false, false);
            match byte {
                b'\'' => self.quoted(was_compared)?,
                b'0'..=b'9' => self.number(was_compared),
                b'"' => {
                    self.at += 1;
                    self.at += self.sql[self.at..].find('"')? + 1;
                }
                b'(' => {
                    outer.push(level);
                    level.in_list = was_in && level.in_where;
                    compared = level.in_list;
                    self.at += 1;
                }
                b')' => {
                    level = outer.pop()?;
                    self.at += 1;
                }
                b',' => {
                    compared = level.in_list;
                    self.at += 1;
                }
                b'=' => {
                    let operator = self.at.checked_sub(1).is_some_and(|i| is_operator(bytes[i]));
                    compared = level.in_where && !operator;
                    self.at += 1;
                }
                b'$' | b';' | b'\\' | b'?' | 0 => return None,
                b'-' | b'/' if matches!(bytes.get(self.at + 1), Some(b'-' | b'*')) => return None,
                _ if is_word(byte) => {
                    let word = self.word();
                    after_in = word.eq_ignore_ascii_case("in");
                    enter(&mut level, word);
                }
                _ => self.at += 1,
            }
        }
        self.text.push_str(&self.sql[self.copied..]);
        Some(Shape { text: self.text, literals: self.literals })
    }

    fn word(&mut self) -> &'a str {
        let (sql, start) = (self.sql, self.at);
        let length = sql.bytes().skip(start).take_while(|b| is_word(*b) || *b == b'$').count();
        self.at += length;
        &sql[start..self.at]
    }

    fn number(&mut self, compared: bool) {
        let (sql, start) = (self.sql, self.at);
        let run = sql.bytes().skip(start).take_while(|b| is_word(*b) || *b == b'.').count();
        self.at += run;
        let digits = &sql[start..self.at];
        if compared && run <= DIGITS_MAX && digits.bytes().all(|b| b.is_ascii_digit()) {
            self.parameter(start, Literal::Integer(digits));
        }
    }

    /// A text in quotes; `None` if its quotes say more than that.
    fn quoted(&mut self, compared: bool) -> Option<()> {
        let (sql, start) = (self.sql, self.at);
        let before = start.checked_sub(1).map(|i| sql.as_bytes()[i]);
        if before.is_some_and(|b| is_word(b) || matches!(b, b'&' | b'\'')) {
            return None;
        }
        let mut doubled = false;
        let mut end = start + 1;
        loop {
            end += sql[end..].find('\'')?;
            if sql.as_bytes().get(end + 1) != Some(&b'\'') {
                break;
            }
            doubled = true;
            end += 2;
        }
        self.at = end + 1;
        if compared {
            let text = Cow::Borrowed(&sql[start + 1..end]);
            let text = if doubled { Cow::Owned(text.replace("''", "'")) } else { text };
            self.parameter(start, Literal::Text(text));
        }
        Some(())
    }

    /// Puts a parameter in the place of what was read from `start` on.
    fn parameter(&mut self, start: usize, literal: Literal<'a>) {
        self.literals.push(literal);
        self.text.push_str(&self.sql[self.copied..start]);
        self.text.push('$');
        self.text.push_str(&self.literals.len().to_string());
        self.copied = self.at;
    }
}

/// Words that begin and end a `WHERE` clause.
fn enter(level: &mut Level, word: &str) {
    const OTHERS: [&str; 9] =
        ["select", "group", "order", "having", "limit", "window", "union", "intersect", "except"];
    if word.eq_ignore_ascii_case("where") {
        level.in_where = true;
    } else if OTHERS.iter().any(|other| word.eq_ignore_ascii_case(other)) {
        *level = Level::default();
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn is_operator(byte: u8) -> bool {
    b"<>!=+-*/%&|^~:@#?`".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaped(sql: &str) -> (String, Vec<String>) {
        let shape = shape(sql).unwrap();
        (shape.text, shape.literals.iter().map(|l| l.as_str().to_owned()).collect())
    }

    #[test]
    fn keys_become_parameters() {
        let (text, literals) = shaped("SELECT a, 1 FROM u WHERE id = 42 AND name='O''Brien';");
        assert_eq!(text, "SELECT a, 1 FROM u WHERE id = $1 AND name=$2");
        assert_eq!(literals, ["42", "O'Brien"]);
        let (text, literals) = shaped("select * from u where id in (1, 2,\n'3') and b = (4)");
        assert_eq!(text, "select * from u where id in ($1, $2,\n$3) and b = (4)");
        assert_eq!(literals, ["1", "2", "3"]);
    }

    #[test]
    fn what_may_name_or_type_a_column_stays() {
        for sql in [
            "SELECT 1, a = 2, 'x' FROM u",
            "SELECT a FROM u WHERE a > 1 AND b <= 2 AND c != 3 AND d = -4 AND e = 5.0 AND f = 6e1",
            "SELECT a FROM u WHERE t = TIMESTAMPTZ '2026-01-01' AND a BETWEEN 1 AND 2",
            "SELECT a FROM u WHERE a LIKE 'x' GROUP BY a = 1 ORDER BY a = 2 LIMIT 3",
            "SELECT (SELECT max(a) FROM u WHERE b = c), d = 1 FROM u",
            "SELECT a FROM u WHERE f(a, 1) = b AND \"in\" = \"x 'y\" AND c = d12",
        ] {
            assert_eq!(shaped(sql), (sql.to_owned(), Vec::new()));
        }
    }

    #[test]
    fn what_is_not_surely_understood_has_no_shape() {
        for sql in [
            "INSERT INTO u VALUES (1)",
            "SELECT a FROM u WHERE a = $1",
            "SELECT a FROM u WHERE a = E'x\\'y'",
            "SELECT a FROM u WHERE a = U&'x'",
            "SELECT a FROM u WHERE a = $$x$$",
            "SELECT a FROM u WHERE a = 1; SELECT 2",
            "SELECT a FROM u WHERE a = 1 -- 'x",
            "SELECT a /* ' */ FROM u WHERE a = 1",
            "SELECT a FROM u WHERE a = 'x",
            "SELECT a FROM u WHERE a = 1)",
            "sel",
        ] {
            assert_eq!(shape(sql), None, "{sql}");
        }
    }
}
