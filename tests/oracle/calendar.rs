//! The calendar, by walking over its years and months.

const MICROS_PER_DAY: i128 = 86_400_000_000;

/// A span of time whose parts are applied one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Calendar months.
    pub months: i64,
    /// Days of 24 hours.
    pub days: i64,
    /// Microseconds.
    pub micros: i64,
}

impl Interval {
    /// `instant - self`: months first, cut to the month's last day, then days, then microseconds.
    pub fn before(self, instant: i64) -> i128 {
        shift(instant, -self.months, -self.days, -self.micros)
    }

    /// `instant + self`.
    pub fn after(self, instant: i64) -> i128 {
        shift(instant, self.months, self.days, self.micros)
    }
}

fn shift(instant: i64, months: i64, days: i64, micros: i64) -> i128 {
    let mut day = i128::from(instant).div_euclid(MICROS_PER_DAY);
    let time_of_day = i128::from(instant).rem_euclid(MICROS_PER_DAY);
    if months != 0 {
        let (mut year, mut month, day_of_month) = date(day);
        for _ in 0..months.abs() {
            month += months.signum();
            if month == 0 {
                (year, month) = (year - 1, 12);
            } else if month == 13 {
                (year, month) = (year + 1, 1);
            }
        }
        day = first_day(year, month) + day_of_month.min(length(year, month)) - 1;
    }
    (day + i128::from(days)) * MICROS_PER_DAY + time_of_day + i128::from(micros)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn length(year: i64, month: i64) -> i128 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn year_length(year: i64) -> i128 {
    if is_leap(year) { 366 } else { 365 }
}

/// The days from 1970-01-01 to the first of a month.
fn first_day(year: i64, month: i64) -> i128 {
    let years: i128 = match year >= 1970 {
        true => (1970..year).map(year_length).sum(),
        false => -(year..1970).map(year_length).sum::<i128>(),
    };
    years + (1..month).map(|month| length(year, month)).sum::<i128>()
}

/// Year, month and day of the month of a day counted from 1970-01-01.
fn date(day: i128) -> (i64, i64, i128) {
    let mut year = 1970;
    let mut rest = day;
    while rest < 0 {
        year -= 1;
        rest += year_length(year);
    }
    while rest >= year_length(year) {
        rest -= year_length(year);
        year += 1;
    }
    let mut month = 1;
    while rest >= length(year, month) {
        rest -= length(year, month);
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARCH_31_2024: i64 = 19_813;

    #[test]
    fn months_end_on_their_last_day() {
        let month = Interval { months: 1, ..Interval::default() };
        let noon = MARCH_31_2024 * 86_400_000_000 + 43_200_000_000;
        assert_eq!(date(MARCH_31_2024.into()), (2024, 3, 31));
        let february = month.before(noon);
        assert_eq!(date(february.div_euclid(MICROS_PER_DAY)), (2024, 2, 29));
        let year = Interval { months: 12, days: 1, micros: 0 };
        assert_eq!(date(year.before(february as i64).div_euclid(MICROS_PER_DAY)), (2023, 2, 27));
        assert_eq!(date(-1), (1969, 12, 31));
        assert_eq!(first_day(1969, 12) + 30, -1);
    }
}
