//! What a client sees of an error.

use arrow::error::ArrowError;
use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;

use super::*;

fn seen(source: DataFusionError) -> ErrorInfo {
    of_planner(&Error::DataFusion(source), "select 1")
}

#[test]
fn unknown_columns_get_a_hint() {
    let source = DataFusionError::SchemaError(
        Box::new(SchemaError::FieldNotFound {
            field: Box::new(Column::from_name("amuont")),
            valid_fields: vec![Column::from_name("amount"), Column::from_name("ts")],
        }),
        Box::new(None),
    );
    let info = seen(source.context("while planning"));
    assert_eq!(info.code, "42703");
    assert_eq!(info.message, "column \"amuont\" does not exist");
    assert_eq!(info.hint.as_deref(), Some("Did you mean \"amount\"?"));
}

#[test]
fn our_errors_come_out_of_wrappers() {
    let ours = Error::OutOfRange { message: "sum is out of range for bigint".to_owned() };
    let wrapped = DataFusionError::from(ours).context("outer");
    let info = seen(DataFusionError::ArrowError(
        Box::new(ArrowError::ExternalError(Box::new(wrapped))),
        None,
    ));
    assert_eq!(
        (info.code.as_str(), info.message.as_str()),
        ("22003", "sum is out of range for bigint")
    );
}

#[test]
fn roots_have_codes_and_clean_messages() {
    let arrow = |source| DataFusionError::ArrowError(Box::new(source), None);
    for (source, code, message) in [
        (arrow(ArrowError::DivideByZero), "22012", "division by zero"),
        (
            DataFusionError::Plan("table 'asofdb.public.nope' not found".to_owned()),
            "42P01",
            "relation \"nope\" does not exist",
        ),
        (
            arrow(ArrowError::CastError("Cannot cast string 'x' to value of Int64 type".into())),
            "22P02",
            "Cannot cast string 'x' to value of Int64 type",
        ),
        (
            arrow(ArrowError::ArithmeticOverflow("Overflow happened on: 1 + 2".into())),
            "22003",
            "Overflow happened on: 1 + 2",
        ),
        (DataFusionError::NotImplemented("DataFusion error: pivot".into()), "0A000", "pivot"),
    ] {
        let info = seen(source);
        assert_eq!((info.code.as_str(), info.message.as_str()), (code, message));
    }
    assert_eq!(seen(DataFusionError::ResourcesExhausted("x".into())).code, "53200");
}

#[test]
fn syntax_errors_have_a_position() {
    let sql = "select\n  frm x";
    let location = Some(asofdb_sql::Location { line: 2, column: 3 });
    let source =
        asofdb_sql::Error::Syntax { message: "unexpected frm".into(), location, hint: None };
    let info = of_planner(&Error::Sql(source), sql);
    assert_eq!((info.code.as_str(), info.position.as_deref()), ("42601", Some("10")));
}
