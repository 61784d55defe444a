//! Random databases: every type, every aggregate, every frame, and the values that break things.

use asofdb_tests::oracle::{
    Condition, Event, Expression, Frame, Function, Interval, Operator, Stream, Value,
    aggregate::{Argument, Call},
};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use super::case::{Case, Column, Definition, Kind, SqlType, render_frame};

const DAY: i64 = 86_400_000_000;
/// The stages at which everything is compared; events arrive before some of them.
pub const STAGES: usize = 5;
/// Events and new features come before these.
const ARRIVAL_STAGES: [usize; 2] = [0, 2];
/// 9999-12-31 in microseconds.
const LAST_DAY: i64 = 253_402_214_400_000_000;
/// 0001-01-02 in microseconds.
const FIRST_DAY: i64 = -62_135_510_400_000_000;

/// A random case. The same seed gives the same case.
pub fn case(seed: u64) -> Case {
    let mut rng = StdRng::seed_from_u64(seed);
    let large = rng.random_ratio(1, 6);
    let columns = columns(&mut rng);
    let grid = Grid::random(&mut rng);
    let key_count = rng.random_range(1..=2) + usize::from(rng.random_ratio(1, 5));
    let mut generator = Generator {
        case: Case {
            seed,
            columns: Vec::new(),
            time_column: 0,
            key_types: Vec::new(),
            streams: Vec::new(),
            definitions: Vec::new(),
            statements: Vec::new(),
            arrivals: vec![Vec::new(); STAGES],
            keys: Vec::new(),
            instants: Vec::new(),
        },
        wild: columns.iter().map(|_| rng.random_ratio(1, 4)).collect(),
        grid,
        rng,
        values: Vec::new(),
    };
    generator.place_columns(columns, key_count);
    generator.place_keys(if large { 3 } else { 5 });
    let (events, statements) = if large { (900, 4) } else { (90, 7) };
    generator.place_definitions(statements);
    generator.place_events(events);
    generator.place_instants(if large { 6 } else { 12 });
    generator.case
}

/// Types of the value columns; the commonest are always there.
fn columns(rng: &mut StdRng) -> Vec<SqlType> {
    use SqlType::*;
    let scale = rng.random_range(0..=4);
    let precision = *[5_u8, 12, 18, 38].choose(rng).expect("four");
    let mut types = vec![Double, Double, BigInt, Numeric(precision, scale)];
    let others = [SmallInt, Integer, Real, Text, Boolean, Date, Timestamp, Timestamptz];
    types.extend(others.choose_multiple(rng, 5).copied());
    types.shuffle(rng);
    types
}

/// Times lie on a grid, so that they tie and meet the ends of frames.
struct Grid {
    base: i64,
    unit: i64,
    span: i64,
}

impl Grid {
    fn random(rng: &mut StdRng) -> Grid {
        // 2024-02-26, 2023-12-29, 1969-12-30, 1900-02-25, 2000-02-26, 2024-03-28
        let days = [19_779, 19_720, -2, -25_512, 11_013, 19_810];
        let unit = *[1, 1_000, 1_000_000, 60_000_000, 3_600_000_000, DAY, 7 * DAY]
            .choose(rng)
            .expect("seven");
        let base = days.choose(rng).expect("six") * DAY + rng.random_range(0..24) * 3_600_000_000;
        Grid { base, unit, span: rng.random_range(4..60) }
    }

    fn time(&self, rng: &mut StdRng) -> i64 {
        let time = self.base + self.unit * rng.random_range(0..self.span);
        match rng.random_range(0..200) {
            0..=9 => time + 1,
            10..=19 => time - 1,
            20 => FIRST_DAY,
            21 => LAST_DAY,
            _ => time,
        }
    }

    fn interval(&self, rng: &mut StdRng) -> Interval {
        let mut interval = Interval::default();
        if rng.random_ratio(1, 4) {
            interval.months = *[1, 1, 2, 3, 11, 12, 13, 48].choose(rng).expect("eight");
        }
        if rng.random_ratio(1, 4) {
            interval.days = rng.random_range(0..32);
        }
        if interval == Interval::default() || rng.random_ratio(1, 4) {
            interval.micros = self.unit * rng.random_range(0..self.span);
        }
        interval
    }
}

struct Generator {
    case: Case,
    rng: StdRng,
    grid: Grid,
    /// The columns that are neither key nor time.
    values: Vec<usize>,
    /// Which of them have extremes.
    wild: Vec<bool>,
}

impl Generator {
    fn place_columns(&mut self, types: Vec<SqlType>, key_count: usize) {
        use SqlType::*;
        for index in 0..key_count {
            let sql_type = *[Integer, BigInt, BigInt, Text, Text, Boolean, Date, SmallInt]
                .choose(&mut self.rng)
                .expect("eight");
            self.case.key_types.push(sql_type);
            self.case.columns.push(Column { name: format!("k{index}"), sql_type });
        }
        // Another key of the same source, of types that the entity's key can hold.
        for index in 0..key_count {
            let own = self.case.key_types[index];
            let sql_type = if own == BigInt && self.rng.random() { Integer } else { own };
            self.case.columns.push(Column { name: format!("other{index}"), sql_type });
        }
        for (index, sql_type) in types.into_iter().enumerate() {
            if index == 3 {
                self.case.time_column = self.case.columns.len();
                self.case.columns.push(Column { name: "ts".into(), sql_type: Timestamptz });
            }
            self.values.push(self.case.columns.len());
            let name = if index == 0 { "\"V 0\"".into() } else { format!("v{index}") };
            self.case.columns.push(Column { name, sql_type });
        }
    }

    /// The keys: `seen` that events have and one more; fewer where the types have no more values.
    fn place_keys(&mut self, seen: usize) {
        for _ in 0..100 {
            let types = self.case.key_types.clone();
            let key: Vec<Value> = types.into_iter().map(|t| self.key_part(t)).collect();
            if self.case.keys.len() < seen + 1 && !self.case.keys.contains(&key) {
                self.case.keys.push(key);
            }
        }
    }

    fn key_part(&mut self, sql_type: SqlType) -> Value {
        let rng = &mut self.rng;
        match sql_type {
            SqlType::Text => {
                let texts = [
                    "", "a", "A", "a|b", "a,b", "it's", "\"q\"", "a\u{1f}b", "\\", "\\N", "é", " ",
                    "a\tb", "NULL", "a:b", "\u{1}", "x\ny", "😀", "0",
                ];
                Value::Text((*texts.choose(rng).expect("texts")).to_owned())
            }
            SqlType::Boolean => Value::Bool(rng.random()),
            SqlType::Date => Value::Date(rng.random_range(-2..=12_000)),
            SqlType::SmallInt => Value::Int(rng.random_range(-3..=3)),
            SqlType::Integer => Value::Int(
                *[0, -1, 1, 42, i32::MIN.into(), i32::MAX.into()].choose(rng).expect("six"),
            ),
            _ => Value::Int(
                *[0, -1, 1, 42, 1 << 20, -(1 << 20), i64::MIN, i64::MAX, 256]
                    .choose(rng)
                    .expect("nine"),
            ),
        }
    }

    fn place_events(&mut self, count: usize) {
        let mut events: Vec<Event> = Vec::new();
        for _ in 0..count {
            if self.rng.random_ratio(1, 20) && !events.is_empty() {
                let twin = events.choose(&mut self.rng).expect("an event").clone();
                events.push(twin);
            } else {
                let event = self.event();
                events.push(event);
            }
        }
        // Mostly in order of time; every fourth arrives at any other moment.
        events.sort_by_key(|event| event.time);
        let batches = self.rng.random_range(3..9);
        let mut arrivals: Vec<Vec<Event>> = vec![Vec::new(); batches];
        for (index, event) in events.into_iter().enumerate() {
            let late = self.rng.random_ratio(1, 4);
            let batch =
                if late { self.rng.random_range(0..batches) } else { index * batches / count };
            arrivals[batch].push(event);
        }
        let split = batches - batches / 3;
        for (index, mut batch) in arrivals.into_iter().enumerate() {
            if self.rng.random() {
                batch.shuffle(&mut self.rng);
            }
            let stage = ARRIVAL_STAGES[usize::from(index >= split)];
            self.case.arrivals[stage].push(batch);
        }
    }

    fn event(&mut self) -> Event {
        let time = self.grid.time(&mut self.rng);
        let keys = self.case.key_types.len();
        // The last key is never seen.
        let seen = self.case.keys.len().saturating_sub(1).max(1);
        let own = self.case.keys[self.rng.random_range(0..seen)].clone();
        let other = self.case.keys[self.rng.random_range(0..seen)].clone();
        let mut row = Vec::new();
        for column in 0..self.case.columns.len() {
            let sql_type = self.case.columns[column].sql_type;
            let missing = self.rng.random_ratio(1, 20);
            row.push(if column == self.case.time_column {
                Value::Timestamp(time)
            } else if column < 2 * keys {
                let part = if column < keys { &own[column] } else { &other[column - keys] };
                let fits = !matches!((part, sql_type), (Value::Int(v), SqlType::Integer)
                    if i32::try_from(*v).is_err());
                if missing || !fits { Value::Null } else { part.clone() }
            } else {
                self.value(column)
            });
        }
        Event { time, row }
    }

    fn value(&mut self, column: usize) -> Value {
        let sql_type = self.case.columns[column].sql_type;
        let index = self.values.iter().position(|v| *v == column).unwrap_or(0);
        let extreme = self.wild[index] && self.rng.random_ratio(1, 3);
        let rng = &mut self.rng;
        if rng.random_ratio(1, 10) {
            return Value::Null;
        }
        match sql_type {
            SqlType::SmallInt if extreme => {
                Value::Int(*[-32_768, 32_767].choose(rng).expect("two"))
            }
            SqlType::Integer if extreme => {
                Value::Int(*[i32::MIN.into(), i32::MAX.into()].choose(rng).expect("two"))
            }
            SqlType::BigInt if extreme => Value::Int(
                *[i64::MIN, i64::MAX, i64::MIN + 1, 1 << 62, -(1 << 53) - 1]
                    .choose(rng)
                    .expect("five"),
            ),
            SqlType::SmallInt | SqlType::Integer => Value::Int(rng.random_range(-99..=99)),
            SqlType::BigInt => Value::Int(rng.random_range(-3_000_000_000..=3_000_000_000)),
            SqlType::Numeric(precision, scale) => {
                let most = 10_i128.pow(precision.into()) - 1;
                Value::Decimal(
                    match extreme {
                        true => *[most, -most, most / 3, 1, -1].choose(rng).expect("five"),
                        false => rng.random_range(-most.min(99_999)..=most.min(99_999)),
                    },
                    scale,
                )
            }
            SqlType::Real => Value::float(f64::from(double(rng, extreme) as f32)),
            SqlType::Double => Value::float(double(rng, extreme)),
            SqlType::Text => Value::Text(
                (*["", "a", "b", "B", "ab", "é", "ö", "z\\", "'", "10", "9", "😀", "\u{ffff}"]
                    .choose(rng)
                    .expect("texts"))
                .to_owned(),
            ),
            SqlType::Boolean => Value::Bool(rng.random()),
            SqlType::Date if extreme => {
                Value::Date(*[-719_162, 2_932_896].choose(rng).expect("two"))
            }
            SqlType::Date => Value::Date(rng.random_range(-9..=9)),
            SqlType::Timestamp | SqlType::Timestamptz => {
                Value::Timestamp(self.grid.base + rng.random_range(-5..=5))
            }
        }
    }

    fn place_instants(&mut self, count: usize) {
        let events: Vec<i64> =
            self.case.arrivals.iter().flatten().flatten().map(|event| event.time).collect();
        let mut instants = vec![FIRST_DAY - DAY, LAST_DAY + DAY - 1];
        while instants.len() < count {
            let event = *events.choose(&mut self.rng).expect("events");
            let by = self.grid.interval(&mut self.rng);
            let time = match self.rng.random_range(0..4) {
                0 => i128::from(event),
                1 => by.after(event),
                _ => {
                    // The end of a frame that a feature has.
                    let frames = self.frame_offsets();
                    frames.choose(&mut self.rng).map_or(event.into(), |f| f.after(event))
                }
            };
            let time = time + i128::from(*[0, 0, 1, -1].choose(&mut self.rng).expect("four"));
            instants.extend(i64::try_from(time).ok().filter(|t| *t < LAST_DAY + DAY));
        }
        instants.sort_unstable();
        instants.dedup();
        self.case.instants = instants;
    }

    fn frame_offsets(&self) -> Vec<Interval> {
        let mut offsets = Vec::new();
        for definition in &self.case.definitions {
            if let Kind::Windowed(_, expression) = &definition.kind
                && let Expression::Call(call) = expression.as_ref()
                && let Frame::Range(start, end) = call.frame
            {
                offsets.extend(start);
                offsets.push(end);
            }
        }
        offsets
    }

    fn place_definitions(&mut self, statements: usize) {
        for statement in 0..statements {
            let sql = self.statement(statement);
            let stage = *[0, 0, 1, 2].choose(&mut self.rng).expect("four");
            self.case.statements.push((sql, stage));
        }
        let doubles: Vec<usize> = (0..self.case.definitions.len())
            .filter(|i| self.case.definitions[*i].output == SqlType::Double)
            .collect();
        if let (Some(&a), Some(&b)) = (doubles.choose(&mut self.rng), doubles.last()) {
            let name = "derived".to_owned();
            let names = [a, b].map(|i| self.case.definitions[i].name.clone());
            let stage = [a, b].map(|i| self.case.statements[self.case.definitions[i].statement].1);
            let sql = format!(
                "CREATE FEATURE derived ON things AS SELECT {} / nullif({}, 0)",
                names[0], names[1]
            );
            let statement = self.case.statements.len();
            self.case.statements.push((sql, stage[0].max(stage[1])));
            let kind = Kind::Derived(a, b);
            self.case.definitions.push(Definition {
                name,
                kind,
                output: SqlType::Double,
                statement,
            });
        }
    }

    /// One statement with one feature or several, over one stream.
    fn statement(&mut self, statement: usize) -> String {
        let keys = self.case.key_types.len();
        let partition = self.rng.random_range(0..4);
        let columns: Vec<usize> =
            if partition == 3 { (keys..2 * keys).collect() } else { (0..keys).collect() };
        let names: Vec<_> = columns.iter().map(|c| self.case.columns[*c].name.clone()).collect();
        let mut window = match partition >= 2 {
            true => format!("PARTITION BY {} ", names.join(", ")),
            false => String::new(),
        };
        if self.rng.random_ratio(1, 4) {
            window += "ORDER BY ts ";
        }
        let condition = self.rng.random_ratio(1, 3).then(|| self.condition(1));
        let selection = match &condition {
            None => String::new(),
            Some(condition) => format!(" WHERE {}", self.case.render_condition(condition)),
        };
        let stream = self.case.streams.len();
        self.case.streams.push(Stream { keys: columns, condition });
        let count = self.rng.random_range(1..=6);
        let (mut items, mut windows) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let name = format!("f{}", self.case.definitions.len());
            let mut over = Over { window: &window, may_omit: partition < 2, named: &mut windows };
            let (expression, sql, output) = self.expression(&mut over);
            items.push((sql, name.clone()));
            let kind = Kind::Windowed(stream, Box::new(expression));
            self.case.definitions.push(Definition { name, kind, output, statement });
        }
        let windows = match windows.is_empty() {
            true => String::new(),
            false => format!(" WINDOW {}", windows.join(", ")),
        };
        let options = match self.rng.random_ratio(1, 6) {
            true => " WITH (online = false)",
            false => "",
        };
        let from = format!("FROM events{selection}{windows}{options}");
        match items.as_slice() {
            [(sql, name)] => format!("CREATE FEATURE {name} ON things AS SELECT {sql} {from}"),
            items => {
                let items: Vec<_> =
                    items.iter().map(|(sql, name)| format!("{sql} AS {name}")).collect();
                let items = items.join(", ");
                format!("CREATE FEATURES ON things AS SELECT {items} {from}")
            }
        }
    }

    fn condition(&mut self, depth: u32) -> Condition {
        if depth > 0 && self.rng.random_ratio(1, 3) {
            let a = Box::new(self.condition(depth - 1));
            return match self.rng.random_range(0..3) {
                0 => Condition::Not(a),
                1 => Condition::And(a, Box::new(self.condition(depth - 1))),
                _ => Condition::Or(a, Box::new(self.condition(depth - 1))),
            };
        }
        let column = *self.values.choose(&mut self.rng).expect("columns");
        if self.rng.random_ratio(1, 5) {
            return Condition::IsNull(column);
        }
        let operators = [Operator::Equal, Operator::NotEqual, Operator::Less, Operator::NotLess];
        let operator = *operators.choose(&mut self.rng).expect("four");
        match self.value(column) {
            Value::Null => Condition::IsNull(column),
            constant => Condition::Compare(column, operator, constant),
        }
    }

    fn frame(&mut self) -> Frame {
        let rng = &mut self.rng;
        match rng.random_range(0..10) {
            0 => Frame::Range(None, Interval::default()),
            1 => Frame::Range(None, self.grid.interval(rng)),
            2..=5 => Frame::Range(Some(self.grid.interval(rng)), Interval::default()),
            6 => loop {
                let (start, end) = (self.grid.interval(rng), self.grid.interval(rng));
                let nominal = |i: Interval| (i.months * 30 + i.days) * DAY + i.micros;
                if nominal(start) >= nominal(end) {
                    return Frame::Range(Some(start), end);
                }
            },
            7 => Frame::Rows(None, rng.random_range(0..4)),
            _ => {
                let end = if rng.random() { 0 } else { rng.random_range(0..5) };
                let most = *[3, 10, 200].choose(rng).expect("three");
                Frame::Rows(Some(end + rng.random_range(0..most)), end)
            }
        }
    }

    /// A call, and the type of its value.
    fn call(&mut self) -> (Call, SqlType) {
        use SqlType::*;
        let column = *self.values.choose(&mut self.rng).expect("columns");
        let sql_type = self.case.columns[column].sql_type;
        let spread = Function::Spread { sample: self.rng.random(), root: self.rng.random() };
        let ignore_nulls = self.rng.random();
        let mut choices = vec![
            (Function::Count, BigInt),
            (Function::CountDistinct, BigInt),
            (Function::First { ignore_nulls }, sql_type),
            (Function::Last { ignore_nulls }, sql_type),
        ];
        if sql_type == Boolean {
            choices.extend([(Function::BoolAnd, Boolean), (Function::BoolOr, Boolean)]);
        } else {
            choices.extend([(Function::Min, sql_type), (Function::Max, sql_type)]);
        }
        if matches!(sql_type, SmallInt | Integer | BigInt) {
            let bits = [Function::BitAnd, Function::BitOr, Function::BitXor];
            choices.extend(bits.map(|function| (function, sql_type)));
        }
        if sql_type.is_number() {
            let sum = match sql_type {
                SmallInt | Integer | BigInt => BigInt,
                Numeric(_, scale) => Numeric(38, scale),
                _ => Double,
            };
            choices.extend([(Function::Sum, sum), (Function::Sum, sum), (Function::Avg, Double)]);
            choices.extend([(spread, Double), (spread, Double)]);
        }
        if self.rng.random_ratio(1, 10) {
            choices = vec![(Function::CountRows, BigInt)];
        }
        let (function, output) = *choices.choose(&mut self.rng).expect("choices");
        let is_pick = matches!(function, Function::First { .. } | Function::Last { .. });
        let argument = match function {
            Function::CountRows => Argument::Row,
            _ if sql_type == Double && !is_pick && self.rng.random_ratio(1, 4) => {
                self.computed(column)
            }
            _ => Argument::Column(column),
        };
        let filter = self.rng.random_ratio(1, 4).then(|| self.condition(1));
        let frame = self.frame();
        (Call { function, argument, filter, frame }, output)
    }

    fn computed(&mut self, column: usize) -> Argument {
        let doubles: Vec<usize> = self
            .values
            .iter()
            .copied()
            .filter(|v| self.case.columns[*v].sql_type == SqlType::Double)
            .collect();
        match self.rng.random() {
            true => Argument::Added(column, *doubles.choose(&mut self.rng).expect("doubles")),
            false => {
                Argument::Times(column, *[2.0, 0.1, -1.5].choose(&mut self.rng).expect("three"))
            }
        }
    }

    /// A call of a double's sum, mean or spread.
    fn double_call(&mut self) -> Call {
        loop {
            let (call, output) = self.call();
            let plain =
                matches!(call.function, Function::Sum | Function::Avg | Function::Spread { .. });
            if plain && output == SqlType::Double {
                return call;
            }
        }
    }

    /// An expression, its text and its type.
    fn expression(&mut self, over: &mut Over<'_>) -> (Expression, String, SqlType) {
        match self.rng.random_range(0..12) {
            0 => {
                let (a, b) = (self.double_call(), self.double_call());
                let sql = format!("{} / nullif({}, 0)", self.over(&a, over), self.over(&b, over));
                (Expression::Ratio(a, b), sql, SqlType::Double)
            }
            1 => {
                let (a, b) = (self.double_call(), self.double_call());
                let sql = format!("{} - {}", self.over(&a, over), self.over(&b, over));
                (Expression::Difference(a, b), sql, SqlType::Double)
            }
            2 => {
                let (argument, filter) = (Argument::Row, Some(self.condition(1)));
                let call =
                    Call { function: Function::CountRows, argument, filter, frame: self.frame() };
                let sql = format!("{} + 1", self.over(&call, over));
                (Expression::Plus(call, 1), sql, SqlType::BigInt)
            }
            3 => {
                let call = self.double_call();
                let sql = format!("coalesce({}, -1.0)", self.over(&call, over));
                (Expression::Coalesce(call, Value::float(-1.0)), sql, SqlType::Double)
            }
            4 if over.may_omit => {
                let column = *self.values.choose(&mut self.rng).expect("columns");
                let Column { name, sql_type } = self.case.columns[column].clone();
                let sql = if self.rng.random() { name } else { format!("last_value({name})") };
                let call = Call {
                    function: Function::Last { ignore_nulls: false },
                    argument: Argument::Column(column),
                    filter: None,
                    frame: Frame::Range(None, Interval::default()),
                };
                (Expression::Call(call), sql, sql_type)
            }
            _ => {
                let (call, output) = self.call();
                let sql = self.over(&call, over);
                (Expression::Call(call), sql, output)
            }
        }
    }

    /// The call with its window, in place or named.
    fn over(&mut self, call: &Call, over: &mut Over<'_>) -> String {
        let whole = call.frame == Frame::Range(None, Interval::default());
        let frame = match whole && self.rng.random() {
            true => String::new(),
            false => render_frame(call.frame),
        };
        let spec = format!("({}{frame})", over.window);
        let sql = self.case.render_call(call);
        if self.rng.random_ratio(1, 3) {
            let name = format!("w{}", over.named.len());
            over.named.push(format!("{name} AS {spec}"));
            return format!("{sql} OVER {name}");
        }
        format!("{sql} OVER {spec}")
    }
}

/// How the calls of a statement are windowed.
struct Over<'a> {
    /// What comes before the frame.
    window: &'a str,
    /// Whether a call may have no window: then its key is the entity's.
    may_omit: bool,
    /// The `WINDOW` clause so far.
    named: &'a mut Vec<String>,
}

fn double(rng: &mut StdRng, extreme: bool) -> f64 {
    if extreme {
        if rng.random_ratio(1, 12) {
            return *[f64::NAN, f64::INFINITY, f64::NEG_INFINITY].choose(rng).expect("three");
        }
        if rng.random_ratio(1, 6) {
            let double = f64::from_bits(rng.random());
            return if double.is_finite() { double } else { 0.5 };
        }
        let extremes = [
            0.0,
            -0.0,
            5e-324,
            -5e-324,
            f64::MAX,
            -f64::MAX,
            1e17,
            -1e17,
            1.0,
            1e308,
            1e-308,
            1e16,
            9_007_199_254_740_992.0,
            9_007_199_254_740_993.0,
            0.1,
            f64::MIN_POSITIVE,
        ];
        return *extremes.choose(rng).expect("extremes");
    }
    match rng.random_range(0..4) {
        0 => f64::from(rng.random_range(-20..=20)),
        1 => f64::from(rng.random_range(-9999..=9999)) / 100.0,
        2 => *[0.0, -0.0, 0.1, 0.2, 0.3, -0.3].choose(rng).expect("six"),
        _ => rng.random_range(-1e3..1e3),
    }
}
