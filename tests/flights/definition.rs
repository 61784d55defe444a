//! The features of `flights.sql` a second time, for the oracle.
//!
//! Written from the SQL by hand: what reads the SQL is part of what is judged.

use asofdb_tests::oracle::aggregate::Argument;
use asofdb_tests::oracle::{
    Call, Condition, Expression, Frame, Function, Interval, Operator, Value,
};

/// Features of one entity over one source.
pub struct Group {
    /// The source, which is the name of its file.
    pub source: &'static str,
    /// Its event time.
    pub time: &'static str,
    /// Its columns that are read. The first one is the key, by the same name as in `schedule`.
    pub columns: &'static [&'static str],
    /// How far back the longest frame of the features goes; none if one has no bound in time.
    pub reach: Option<Interval>,
    /// Columns of the training set, and how they come from the others of `columns`, by number.
    pub features: Vec<(&'static str, Expression)>,
}

impl Group {
    /// The column that is the key.
    pub fn key(&self) -> &'static str {
        self.columns[0]
    }
}

/// How long before its scheduled departure a flight is predicted, in microseconds.
pub const LEAD: i64 = HOUR;

/// Columns of the training set that are columns of `schedule`, by their names there.
pub const LABELS: &[(&str, &str)] = &[
    ("flight_id", "flight_id"),
    ("carrier", "carrier"),
    ("tailnum", "tailnum"),
    ("origin", "origin"),
    ("dest", "dest"),
    ("distance", "distance"),
    ("scheduled_at", "scheduled_at"),
    ("label_arr_delay", "arr_delay"),
];

/// All other columns of the training set.
pub fn groups() -> [Group; 5] {
    [
        airports_departures(),
        airports_weather(),
        carriers_departures(),
        carriers_landings(),
        planes_landings(),
    ]
}

const HOUR: i64 = 3_600_000_000;
const ALWAYS: Frame = Frame::Range(None, past(0, 0));
const W1H: Frame = Frame::Range(Some(past(0, 1)), past(0, 0));
const W24H: Frame = Frame::Range(Some(past(0, 24)), past(0, 0));
const W7D: Frame = Frame::Range(WEEK, past(0, 0));
const WEEK: Option<Interval> = Some(past(7, 0));

const fn past(days: i64, hours: i64) -> Interval {
    Interval { months: 0, days, micros: hours * HOUR }
}

fn airports_departures() -> Group {
    const DEP_DELAY: Argument = Argument::Column(1);
    const CARRIER: Argument = Argument::Column(2);
    let spread = Function::Spread { sample: true, root: true };
    Group {
        source: "departures",
        time: "departed_at",
        columns: &["origin", "dep_delay", "carrier"],
        reach: WEEK,
        features: vec![
            ("departures_1h", of(count(W1H))),
            ("dep_delay_1h", of(call(Function::Avg, DEP_DELAY, W1H))),
            ("dep_delay_24h", of(call(Function::Avg, DEP_DELAY, W24H))),
            ("dep_delay_7d", of(call(Function::Avg, DEP_DELAY, W7D))),
            ("worst_delay_24h", of(call(Function::Max, DEP_DELAY, W24H))),
            ("delay_spread_24h", of(call(spread, DEP_DELAY, W24H))),
            ("carriers_1h", of(call(Function::CountDistinct, CARRIER, W1H))),
        ],
    }
}

fn airports_weather() -> Group {
    const PRECIP: Argument = Argument::Column(3);
    const VISIB: Argument = Argument::Column(4);
    Group {
        source: "weather",
        time: "observed_at",
        columns: &["origin", "temp", "wind_speed", "precip", "visib"],
        reach: None,
        features: vec![
            ("temp", of(latest(Argument::Column(1)))),
            ("wind_speed", of(latest(Argument::Column(2)))),
            ("precip", of(latest(PRECIP))),
            ("visib", of(latest(VISIB))),
            ("precip_24h", of(call(Function::Sum, PRECIP, W24H))),
            ("worst_visib_6", of(call(Function::Min, VISIB, Frame::Rows(Some(5), 0)))),
        ],
    }
}

fn carriers_departures() -> Group {
    const DEP_DELAY: Argument = Argument::Column(1);
    // More than 15: not less and not equal. A NULL is neither way.
    let fifteen = || Value::float(15.0);
    let more = Condition::And(
        Box::new(Condition::Compare(1, Operator::NotLess, fifteen())),
        Box::new(Condition::Compare(1, Operator::NotEqual, fifteen())),
    );
    let late = Call { filter: Some(more), ..count(W24H) };
    Group {
        source: "departures",
        time: "departed_at",
        columns: &["carrier", "dep_delay"],
        reach: WEEK,
        features: vec![
            ("carrier_departures_1h", of(count(W1H))),
            ("carrier_dep_delay_1h", of(call(Function::Avg, DEP_DELAY, W1H))),
            ("carrier_dep_delay_24h", of(call(Function::Avg, DEP_DELAY, W24H))),
            ("carrier_dep_delay_7d", of(call(Function::Avg, DEP_DELAY, W7D))),
            ("carrier_late_24h", of(late.clone())),
            ("carrier_late_share_24h", Expression::Ratio(late, count(W24H))),
        ],
    }
}

fn carriers_landings() -> Group {
    const ARR_DELAY: Argument = Argument::Column(1);
    Group {
        source: "landings",
        time: "landed_at",
        columns: &["carrier", "arr_delay"],
        reach: WEEK,
        features: vec![
            ("carrier_arr_delay_24h", of(call(Function::Avg, ARR_DELAY, W24H))),
            ("carrier_arr_delay_7d", of(call(Function::Avg, ARR_DELAY, W7D))),
        ],
    }
}

fn planes_landings() -> Group {
    const ARR_DELAY: Argument = Argument::Column(1);
    const DEST: Argument = Argument::Column(2);
    const AIR_TIME: Argument = Argument::Column(3);
    Group {
        source: "landings",
        time: "landed_at",
        columns: &["tailnum", "arr_delay", "dest", "air_time"],
        reach: None,
        features: vec![
            ("plane_last_arr_delay", of(latest(ARR_DELAY))),
            ("plane_last_dest", of(latest(DEST))),
            ("plane_arr_delay_last_5", of(call(Function::Avg, ARR_DELAY, Frame::Rows(Some(4), 0)))),
            ("plane_landings_24h", of(count(W24H))),
            ("plane_air_time_7d", of(call(Function::Sum, AIR_TIME, W7D))),
        ],
    }
}

fn of(call: Call) -> Expression {
    Expression::Call(call)
}

fn call(function: Function, argument: Argument, frame: Frame) -> Call {
    Call { function, argument, filter: None, frame }
}

/// `count(*)`
fn count(frame: Frame) -> Call {
    call(Function::CountRows, Argument::Row, frame)
}

/// A plain column, or `last_value` without `OVER`: that of the latest event, NULL or not.
fn latest(column: Argument) -> Call {
    call(Function::Last { ignore_nulls: false }, column, ALWAYS)
}
