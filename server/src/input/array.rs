//! Array literals: `{1,2,NULL}`, `{"a b","c\"d"}`, `{{1,2},{3,4}}`.

use super::{InputError, Result, is_space};

/// One element of an array literal, unquoted.
#[derive(Debug, PartialEq, Eq)]
pub enum Element {
    /// `NULL` without quotes.
    Null,
    /// A value's text.
    Text(String),
    /// An array in the array, as it is written.
    Array(String),
}

/// Splits an array literal into its elements.
pub fn elements(text: &str) -> Result<Vec<Element>> {
    parse(text).ok_or_else(|| {
        let message = format!("malformed array literal: \"{}\"", super::shorten(text));
        InputError::new("22P02", message)
    })
}

fn parse(text: &str) -> Option<Vec<Element>> {
    let mut body = text.trim_matches(is_space);
    // `[1:3]={...}`: bounds are read over, Arrow's lists have none.
    if body.starts_with('[') {
        body = body.split_once('=')?.1.trim_start_matches(is_space);
    }
    let mut rest = body.strip_prefix('{')?.strip_suffix('}')?;
    let mut found = Vec::new();
    if rest.trim_matches(is_space).is_empty() {
        return Some(found);
    }
    loop {
        rest = rest.trim_start_matches(is_space);
        let (element, tail) = if rest.starts_with('{') {
            let end = nested_end(rest)?;
            (Element::Array(rest[..end].to_owned()), &rest[end..])
        } else if let Some(quoted) = rest.strip_prefix('"') {
            let (value, tail) = quoted_value(quoted)?;
            (Element::Text(value), tail)
        } else {
            plain_value(rest)?
        };
        found.push(element);
        rest = tail.trim_start_matches(is_space);
        match rest.strip_prefix(',') {
            Some(tail) => rest = tail,
            None => return rest.is_empty().then_some(found),
        }
    }
}

/// The byte after the brace that closes the one at the start of `text`.
fn nested_end(text: &str) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b'{' if !quoted => depth += 1,
            b'}' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

fn quoted_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

fn plain_value(text: &str) -> Option<(Element, &str)> {
    let mut value = String::new();
    let mut escaped = false;
    let mut end = text.len();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            ',' => {
                end = at;
                break;
            }
            '"' | '{' | '}' => return None,
            '\\' => {
                escaped = true;
                value.push(chars.next()?.1);
            }
            c => value.push(c),
        }
    }
    if !escaped {
        value.truncate(value.trim_end_matches(is_space).len());
    }
    if value.is_empty() {
        return None;
    }
    let null = !escaped && value.eq_ignore_ascii_case("null");
    Some((if null { Element::Null } else { Element::Text(value) }, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Element {
        Element::Text(value.to_owned())
    }

    #[test]
    fn literals() {
        assert_eq!(elements(" { } ").unwrap(), []);
        assert_eq!(elements("{1, 2 ,NULL}").unwrap(), [text("1"), text("2"), Element::Null]);
        let awkward = r#"{"a b","c\"d","","NULL",x\,y,a b}"#;
        let expected = ["a b", "c\"d", "", "NULL", "x,y", "a b"].map(text);
        assert_eq!(elements(awkward).unwrap(), expected);
        let nested = elements(r#"{{1,2},{"}",3}}"#).unwrap();
        assert_eq!(nested[1], Element::Array(r#"{"}",3}"#.to_owned()));
        assert_eq!(elements("[0:1]={a,b}").unwrap(), [text("a"), text("b")]);
    }

    #[test]
    fn malformed() {
        for bad in ["", "1,2", "{1,2", "{1,,2}", "{1,}", "{\"a}", "{a\"b}", "{{1}", "{1}}"] {
            assert_eq!(elements(bad).unwrap_err().code, "22P02", "{bad}");
        }
    }
}
