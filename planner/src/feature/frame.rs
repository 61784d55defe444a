//! Window frames of a definition.

use asofdb_udfs::{Bound, Frame, Interval};
use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;
use datafusion::scalar::ScalarValue;
use sqlparser::ast::{self, WindowFrame, WindowFrameBound, WindowFrameUnits};

use super::resolve::Resolver;
use crate::error::{Error, Result};

/// The frame of a window; without one it is `RANGE UNBOUNDED PRECEDING`, as in standard SQL.
pub fn frame(frame: Option<&WindowFrame>, resolver: &Resolver) -> Result<Frame> {
    let Some(frame) = frame else { return Ok(Frame::latest()) };
    let end = frame.end_bound.as_ref().unwrap_or(&WindowFrameBound::CurrentRow);
    let result = match frame.units {
        WindowFrameUnits::Range => Frame::Range {
            start: match preceding(&frame.start_bound)? {
                Offset::Unbounded => Bound::Unbounded,
                Offset::None => Bound::Preceding(Interval::ZERO),
                Offset::By(expr) => Bound::Preceding(interval(expr, resolver)?),
            },
            end: match preceding(end)? {
                Offset::Unbounded => return Err(unbounded_end()),
                Offset::None => Interval::ZERO,
                Offset::By(expr) => interval(expr, resolver)?,
            },
        },
        WindowFrameUnits::Rows => Frame::Rows {
            start: match preceding(&frame.start_bound)? {
                Offset::Unbounded => None,
                Offset::None => Some(0),
                Offset::By(expr) => Some(rows(expr)?),
            },
            end: match preceding(end)? {
                Offset::Unbounded => return Err(unbounded_end()),
                Offset::None => 0,
                Offset::By(expr) => rows(expr)?,
            },
        },
        WindowFrameUnits::Groups => {
            return Err(Error::unsupported("GROUPS frames are not supported"));
        }
    };
    result.validate()?;
    Ok(result)
}

enum Offset<'a> {
    Unbounded,
    None,
    By(&'a ast::Expr),
}

fn preceding(bound: &WindowFrameBound) -> Result<Offset<'_>> {
    match bound {
        WindowFrameBound::CurrentRow => Ok(Offset::None),
        WindowFrameBound::Preceding(None) => Ok(Offset::Unbounded),
        WindowFrameBound::Preceding(Some(offset)) => Ok(Offset::By(offset)),
        WindowFrameBound::Following(_) => Err(Error::Definition {
            message: "a feature never sees the future: FOLLOWING is not allowed in its frame"
                .into(),
            hint: Some("Use PRECEDING or CURRENT ROW.".into()),
        }),
    }
}

fn unbounded_end() -> Error {
    Error::definition("a frame can't end at UNBOUNDED PRECEDING")
}

fn rows(expr: &ast::Expr) -> Result<u64> {
    let text = expr.to_string();
    text.parse().map_err(|_| Error::Definition {
        message: format!("ROWS {text} PRECEDING: the offset is a whole number, not negative"),
        hint: None,
    })
}

/// An interval constant, whole microseconds and not negative.
fn interval(expr: &ast::Expr, resolver: &Resolver) -> Result<Interval> {
    let schema = DFSchema::empty();
    let value = Resolver { state: resolver.state, schema: &schema }.value(expr)?;
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(value)), _) = value else {
        return Err(Error::Definition {
            message: format!("RANGE {expr} PRECEDING: the offset is an interval"),
            hint: Some("For instance RANGE INTERVAL '1 hour' PRECEDING.".into()),
        });
    };
    if value.nanoseconds % 1000 != 0 {
        return Err(Error::definition(format!("{expr} is finer than a microsecond")));
    }
    if value.months < 0 || value.days < 0 || value.nanoseconds < 0 {
        return Err(Error::definition(format!("{expr} PRECEDING lies in the future")));
    }
    Ok(Interval { months: value.months, days: value.days, micros: value.nanoseconds / 1000 })
}

/// An interval from an option's text.
pub fn interval_text(text: &str, resolver: &Resolver) -> Result<Interval> {
    let quoted = text.replace('\'', "''");
    interval(&asofdb_sql::parse_expr(&format!("INTERVAL '{quoted}'"))?, resolver)
}
