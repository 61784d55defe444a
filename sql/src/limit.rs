//! Limits on a text, so that no later stage overflows the stack or runs out of memory.
//!
//! A tree is dropped, cloned and printed recursively, so its depth must be bounded before it is
//! built. The bound is taken from the tokens, in one pass without recursion:
//!
//! 1. A frame per open parenthesis or bracket counts operators (anything that may add a level to
//!    a left-deep chain such as `1 + 1 + 1`). A comma ends a chain, so lists may be long.
//! 2. The depth of an element is its operators plus the deepest group within it.
//! 3. Set operators are not ended by commas and have a counter of their own.
//!
//! After parsing, the real depth of expressions is measured, with a tighter limit.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Query, Select, TableFactor, Visit, Visitor};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::Error;
use crate::token::is_word;

/// The longest text in bytes.
pub const MAX_TEXT_BYTES: usize = 16 << 20;
/// The most tokens in a text, without white space.
pub const MAX_TOKENS: usize = 4_000_000;
/// The deepest nesting of parentheses and brackets.
pub const MAX_NESTING: usize = 100;
/// The deepest tree of expressions; `a OR b OR c` has three levels.
///
/// A debug build takes up to 5 kB of stack per level to copy a tree; a worker has 2 MiB.
pub const MAX_EXPRESSION_DEPTH: usize = 256;
/// The most relations in one `FROM`, joins included.
pub const MAX_RELATIONS: usize = 250;

/// The most operators in one element of a list, groups within it included.
const MAX_OPERATORS: usize = 2_000;
/// The most UNION, INTERSECT and EXCEPT in a row.
const MAX_SET_OPERATORS: usize = 64;
/// The parser's own limit: several of its levels make one level of parentheses.
pub(crate) const PARSER_DEPTH: usize = 6 * MAX_NESTING;

/// Enough for [`MAX_NESTING`] and [`MAX_OPERATORS`] in a debug build; only touched pages count.
pub(crate) const PARSER_STACK_BYTES: usize = 128 << 20;

/// How many operands the parser may start: a few times those that there can be, for its attempts.
pub(crate) fn parser_steps(tokens: usize) -> usize {
    20_000 + 4 * tokens
}

/// How deep a statement is by its tokens.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shape {
    nesting: usize,
    operators: usize,
}

impl Shape {
    /// Whether parsing it may take more stack than a caller can be expected to have.
    pub(crate) fn is_deep(self) -> bool {
        const ORDINARY_NESTING: usize = 6;
        const ORDINARY_OPERATORS: usize = 50;
        self.nesting > ORDINARY_NESTING || self.operators > ORDINARY_OPERATORS
    }
}

/// Words that add a level to the tree, or a link to a chain.
const OPERATOR_WORDS: &[&str] = &[
    "and", "or", "xor", "not", "is", "in", "between", "like", "ilike", "similar", "rlike",
    "regexp", "at", "collate", "div", "overlaps", "operator", "notnull", "isnull", "join", "case",
    "interval", "prior", "member", "array", "explain",
];
const SET_WORDS: &[&str] = &["union", "except", "intersect", "minus"];

#[derive(Default)]
struct Frame {
    /// Operators of the current element.
    operators: usize,
    /// The deepest group within the current element.
    inner: usize,
    /// The deepest element so far.
    deepest: usize,
    set_operators: usize,
}

impl Frame {
    fn depth(&self) -> usize {
        self.operators + self.inner
    }
}

/// Refuses the tokens of a statement whose tree could be too deep.
pub(crate) fn check_tokens(tokens: &[TokenWithSpan]) -> Result<Shape, Error> {
    let mut shape = Shape::default();
    let mut frame = Frame::default();
    let mut outer: Vec<Frame> = Vec::new();
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                frame.operators += usize::from(token.token != Token::LParen);
                outer.push(std::mem::take(&mut frame));
                shape.nesting = shape.nesting.max(outer.len());
                if outer.len() > MAX_NESTING {
                    return Err(Error::TOO_DEEP);
                }
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                let depth = frame.deepest.max(frame.depth()) + 1;
                frame = outer.pop().unwrap_or_default();
                frame.inner = frame.inner.max(depth);
            }
            Token::Comma => {
                frame.deepest = frame.deepest.max(frame.depth());
                (frame.operators, frame.inner) = (0, 0);
            }
            other => count(&mut frame, other)?,
        }
        shape.operators = shape.operators.max(frame.depth());
        if frame.depth() > MAX_OPERATORS {
            return Err(Error::TooComplex { what: "operators", limit: MAX_OPERATORS });
        }
    }
    Ok(shape)
}

fn count(frame: &mut Frame, token: &Token) -> Result<(), Error> {
    match token {
        Token::Whitespace(_) | Token::Period | Token::EOF | Token::Number(..) => {}
        Token::SingleQuotedString(_) | Token::Placeholder(_) => {}
        Token::Word(word) if word.quote_style.is_some() => {}
        Token::Word(_) if OPERATOR_WORDS.iter().any(|word| is_word(token, word)) => {
            frame.operators += 1;
        }
        Token::Word(_) if SET_WORDS.iter().any(|word| is_word(token, word)) => {
            frame.set_operators += 1;
            if frame.set_operators > MAX_SET_OPERATORS {
                let what = "set operators";
                return Err(Error::TooComplex { what, limit: MAX_SET_OPERATORS });
            }
        }
        Token::Word(_) => {}
        _ => frame.operators += 1,
    }
    Ok(())
}

/// Refuses trees that are deeper or wider than later stages can walk.
pub(crate) fn check_tree<T: Visit>(tree: &T) -> Result<(), Error> {
    match tree.visit(&mut Depth(0)) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Depth(usize);

/// A query within a query or a join within a join takes the stack of this many expressions.
const QUERY_LEVELS: usize = 5;

impl Depth {
    fn enter(&mut self, levels: usize) -> ControlFlow<Error> {
        self.0 += levels;
        match self.0 > MAX_EXPRESSION_DEPTH {
            true => ControlFlow::Break(Error::TooComplex {
                what: "levels of expressions",
                limit: MAX_EXPRESSION_DEPTH,
            }),
            false => ControlFlow::Continue(()),
        }
    }
}

impl Visitor for Depth {
    type Break = Error;

    fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<Error> {
        self.enter(1)
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<Error> {
        self.0 -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<Error> {
        self.enter(QUERY_LEVELS)
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Error> {
        self.0 -= QUERY_LEVELS;
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Error> {
        match factor {
            TableFactor::NestedJoin { .. } => self.enter(QUERY_LEVELS),
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Error> {
        if matches!(factor, TableFactor::NestedJoin { .. }) {
            self.0 -= QUERY_LEVELS;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Error> {
        let relations: usize = select.from.iter().map(|from| 1 + from.joins.len()).sum();
        match relations > MAX_RELATIONS {
            true => ControlFlow::Break(Error::TooComplex {
                what: "relations in one FROM",
                limit: MAX_RELATIONS,
            }),
            false => ControlFlow::Continue(()),
        }
    }
}
