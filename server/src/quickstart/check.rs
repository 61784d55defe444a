//! Compares rows of the training set with what the same database answers online.

use std::fs::File;
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::QuickstartError;

/// One row in so many is read again.
const SAMPLE_EVERY: usize = 97;

/// How long before its scheduled departure a flight is predicted, in microseconds.
const LEAD_MICROS: i64 = 3_600_000_000;

/// An entity: its name, its key column, and its features with their names in the training set.
type EntityColumns = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The entities of the training set.
const ENTITIES: &[EntityColumns] = &[
    (
        "airports",
        "origin",
        &[
            ("departures_1h", "departures_1h"),
            ("dep_delay_1h", "dep_delay_1h"),
            ("dep_delay_24h", "dep_delay_24h"),
            ("dep_delay_7d", "dep_delay_7d"),
            ("worst_delay_24h", "worst_delay_24h"),
            ("delay_spread_24h", "delay_spread_24h"),
            ("carriers_1h", "carriers_1h"),
            ("temp", "temp"),
            ("wind_speed", "wind_speed"),
            ("precip", "precip"),
            ("visib", "visib"),
            ("precip_24h", "precip_24h"),
            ("worst_visib_6", "worst_visib_6"),
        ],
    ),
    (
        "carriers",
        "carrier",
        &[
            ("departures_1h", "carrier_departures_1h"),
            ("dep_delay_1h", "carrier_dep_delay_1h"),
            ("dep_delay_24h", "carrier_dep_delay_24h"),
            ("dep_delay_7d", "carrier_dep_delay_7d"),
            ("late_24h", "carrier_late_24h"),
            ("late_share_24h", "carrier_late_share_24h"),
            ("arr_delay_24h", "carrier_arr_delay_24h"),
            ("arr_delay_7d", "carrier_arr_delay_7d"),
        ],
    ),
    (
        "planes",
        "tailnum",
        &[
            ("last_arr_delay", "plane_last_arr_delay"),
            ("last_dest", "plane_last_dest"),
            ("arr_delay_last_5", "plane_arr_delay_last_5"),
            ("landings_24h", "plane_landings_24h"),
            ("air_time_7d", "plane_air_time_7d"),
        ],
    ),
];

/// What the comparison found.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Rows of the training set that were read again.
    pub rows: usize,
    /// Values compared.
    pub compared: usize,
    /// The values that differ, in words.
    pub differences: Vec<String>,
}

/// Reads a sample of the training set's rows online, as of their instants.
pub async fn check(client: &Client, file: &Path) -> Result<Comparison, QuickstartError> {
    let mut statements = Vec::new();
    for (entity, key, features) in ENTITIES {
        let columns: Vec<_> = features.iter().map(|(name, _)| *name).collect();
        let query = format!(
            "SELECT {} FROM {entity} FOR SYSTEM_TIME AS OF $1 WHERE {key} = $2",
            columns.join(", ")
        );
        statements.push(client.prepare(&query).await?);
    }
    let unreadable =
        |error: &dyn std::fmt::Display| QuickstartError::TrainingSet(error.to_string());
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file)?)
        .and_then(|builder| builder.build())
        .map_err(|e| unreadable(&e))?;
    let mut found = Comparison::default();
    let mut seen = 0;
    for batch in reader {
        let batch = batch.map_err(|e| unreadable(&e))?;
        for row in 0..batch.num_rows() {
            if seen % SAMPLE_EVERY == 0 {
                found.rows += 1;
                check_row(client, &statements, (&batch, row), &mut found).await?;
            }
            seen += 1;
        }
    }
    Ok(found)
}

async fn check_row(
    client: &Client,
    statements: &[Statement],
    (batch, row): (&RecordBatch, usize),
    found: &mut Comparison,
) -> Result<(), QuickstartError> {
    let column = |name: &str| {
        batch
            .column_by_name(name)
            .ok_or_else(|| QuickstartError::TrainingSet(format!("it has no column {name}")))
    };
    let scheduled = column("scheduled_at")?.as_primitive::<TimestampMicrosecondType>().value(row);
    let instant = chrono::DateTime::from_timestamp_micros(scheduled - LEAD_MICROS)
        .ok_or_else(|| QuickstartError::TrainingSet(format!("{scheduled} is no instant")))?;
    for ((entity, key, features), statement) in ENTITIES.iter().zip(statements) {
        let keys = column(key)?.as_string::<i32>();
        // A flight without a plane has no key to ask for.
        if keys.is_null(row) {
            continue;
        }
        let online = client
            .query_one(statement, &[&instant as &(dyn ToSql + Sync), &keys.value(row)])
            .await?;
        for (index, (feature, name)) in features.iter().enumerate() {
            found.compared += 1;
            let trained = Value::of_training(column(name)?.as_ref(), row);
            let served = Value::of_online(&online, index)?;
            if trained != served {
                found.differences.push(format!(
                    "{entity}.{feature} of {} as of {instant}: training {trained:?}, online \
                     {served:?}",
                    keys.value(row)
                ));
            }
        }
    }
    Ok(())
}

/// A value that is equal only to the same bits.
#[derive(Debug, PartialEq)]
enum Value {
    Null,
    Integer(i64),
    Float(u64),
    Text(String),
    Other(String),
}

impl Value {
    fn of_training(column: &dyn Array, row: usize) -> Value {
        use arrow::datatypes::DataType;
        if column.is_null(row) {
            return Value::Null;
        }
        match column.data_type() {
            DataType::Int64 => Value::Integer(column.as_primitive::<Int64Type>().value(row)),
            DataType::Float64 => {
                Value::Float(column.as_primitive::<Float64Type>().value(row).to_bits())
            }
            DataType::Utf8 => Value::Text(column.as_string::<i32>().value(row).to_owned()),
            other => Value::Other(format!("training type {other}")),
        }
    }

    fn of_online(row: &Row, index: usize) -> Result<Value, tokio_postgres::Error> {
        use tokio_postgres::types::Type;
        let null = || Value::Null;
        Ok(match row.columns()[index].type_() {
            &Type::INT8 => row.try_get::<_, Option<i64>>(index)?.map_or_else(null, Value::Integer),
            &Type::FLOAT8 => row
                .try_get::<_, Option<f64>>(index)?
                .map_or_else(null, |value| Value::Float(value.to_bits())),
            &Type::TEXT => row.try_get::<_, Option<String>>(index)?.map_or_else(null, Value::Text),
            other => Value::Other(format!("online type {other}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Float64Array;

    #[test]
    fn the_last_bit_makes_a_difference() {
        let column = Float64Array::from(vec![0.1 + 0.2]);
        let same = Value::Float((0.1f64 + 0.2).to_bits());
        let near = Value::Float(0.3f64.to_bits());
        assert_eq!(Value::of_training(&column, 0), same);
        assert_ne!(Value::of_training(&column, 0), near);
    }
}
