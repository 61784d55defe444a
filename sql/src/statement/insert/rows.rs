//! `INSERT … VALUES` of many rows of literals, which sqlparser reads slowly: it tries each value as
//! the name of a type first, and formats an error when it is none.
//!
//! sqlparser reads the statement up to the end of its first row. The other rows are read here, one
//! token after the other, if they hold nothing but literals and parameters and the statement ends
//! with them; else sqlparser reads it all. The trees are equal either way.

use std::iter::Peekable;

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    CastKind, DataType, Expr, Parens, SetExpr, TimezoneInfo, TypedString, UnaryOperator, Value,
};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::Error;
use crate::statement::Statement;
use crate::token::is_word;

type Row = Parens<Vec<Expr>>;

/// The statement, if its rows can be read here; `parse` reads the part before the second row.
pub(crate) fn insert_of_literals(
    tokens: &[TokenWithSpan],
    parse: impl FnOnce(&[TokenWithSpan]) -> Result<Statement, Error>,
) -> Option<Statement> {
    let first = tokens.iter().find(|t| !is_space(t))?;
    if !is_word(&first.token, "INSERT") {
        return None;
    }
    let values = 1 + values_keyword(tokens)?;
    let row = 1 + tokens[values..].iter().position(|t| t.token == Token::RParen)?;
    let (head, others) = tokens.split_at(values + row);
    let mut others = others.iter().filter(|t| !is_space(t)).peekable();
    let mut rows = Vec::new();
    while let Some(comma) = others.next() {
        rows.push((comma.token == Token::Comma).then(|| literal_row(&mut others))??);
    }
    if rows.is_empty() {
        return None;
    }
    let Ok(Statement::Insert(mut insert)) = parse(head) else { return None };
    let SetExpr::Values(values) = insert.source.as_deref_mut()?.body.as_mut() else { return None };
    values.rows.append(&mut rows);
    Some(Statement::Insert(insert))
}

fn is_space(token: &TokenWithSpan) -> bool {
    matches!(token.token, Token::Whitespace(_))
}

/// Where VALUES stands outside of parentheses.
fn values_keyword(tokens: &[TokenWithSpan]) -> Option<usize> {
    let mut depth = 0usize;
    tokens.iter().position(|token| {
        match &token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            word => return depth == 0 && is_word(word, "VALUES"),
        }
        false
    })
}

fn literal_row<'t>(tokens: &mut Peekable<impl Iterator<Item = &'t TokenWithSpan>>) -> Option<Row> {
    let opening = tokens.next().filter(|t| t.token == Token::LParen)?;
    let mut content = Vec::new();
    loop {
        content.push(literal(tokens)?);
        let next = tokens.next()?;
        match next.token {
            Token::Comma => {}
            Token::RParen => {
                let opening_token = AttachedToken(opening.clone());
                return Some(Parens {
                    opening_token,
                    content,
                    closing_token: AttachedToken(next.clone()),
                });
            }
            _ => return None,
        }
    }
}

/// A value, `-number`, `DATE '…'` or `value::DATE`, of the types of time.
fn literal<'t>(tokens: &mut Peekable<impl Iterator<Item = &'t TokenWithSpan>>) -> Option<Expr> {
    let first = tokens.next()?;
    if first.token == Token::Minus {
        let number = tokens.next().filter(|t| matches!(t.token, Token::Number(..)))?;
        let expr = Box::new(Expr::Value(value(&number.token)?.with_span(number.span)));
        return Some(Expr::UnaryOp { op: UnaryOperator::Minus, expr });
    }
    if let Some(data_type) = time_type(&first.token) {
        let text = tokens.next()?;
        let value = match &text.token {
            Token::SingleQuotedString(text) => Value::SingleQuotedString(text.clone()),
            _ => return None,
        };
        let value = value.with_span(text.span);
        return Some(Expr::TypedString(TypedString { data_type, value, uses_odbc_syntax: false }));
    }
    let expr = Expr::Value(value(&first.token)?.with_span(first.span));
    if tokens.next_if(|t| t.token == Token::DoubleColon).is_none() {
        return Some(expr);
    }
    let data_type = time_type(&tokens.next()?.token)?;
    let expr = Box::new(expr);
    Some(Expr::Cast { kind: CastKind::DoubleColon, expr, data_type, array: false, format: None })
}

fn value(token: &Token) -> Option<Value> {
    Some(match token {
        Token::Number(digits, long) => Value::Number(digits.clone(), *long),
        Token::SingleQuotedString(text) => Value::SingleQuotedString(text.clone()),
        Token::Placeholder(id) => Value::Placeholder(id.clone()),
        Token::Word(word) if word.quote_style.is_none() => match word.keyword {
            Keyword::NULL => Value::Null,
            Keyword::TRUE => Value::Boolean(true),
            Keyword::FALSE => Value::Boolean(false),
            _ => return None,
        },
        _ => return None,
    })
}

fn time_type(token: &Token) -> Option<DataType> {
    let Token::Word(word) = token else { return None };
    match word.keyword {
        Keyword::DATE => Some(DataType::Date),
        Keyword::TIMESTAMP => Some(DataType::Timestamp(None, TimezoneInfo::None)),
        Keyword::TIMESTAMPTZ => Some(DataType::Timestamp(None, TimezoneInfo::Tz)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
