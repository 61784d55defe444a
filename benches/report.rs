//! What a comparison prints: medians, spread, ratios.
//!
//! Systems are measured in turn, so that whatever else the machine does meets all of them. The
//! ratio is that of the medians; its spread is that of the ratios of single rounds.

/// The samples of one system, one a round.
pub struct Series {
    pub system: String,
    pub samples: Vec<f64>,
}

/// Which figure is the better one.
#[derive(Clone, Copy)]
pub enum Better {
    Higher,
    Lower,
}

/// Prints a heading for [`compare`]'s lines.
pub fn heading(title: &str) {
    println!("\n## {title}\n");
    println!(
        "| measure | system | median | least | greatest | the first is better by (least … greatest) |"
    );
    println!("|---|---|---:|---:|---:|---:|");
}

/// Prints a line for each series; the first, AsofDB's, is compared with the others.
pub fn compare(measure: &str, better: Better, series: &[Series]) {
    let Some((ours, peers)) = series.split_first() else { return };
    line(measure, ours, "");
    for peer in peers {
        let ratio = |ours: f64, theirs: f64| match better {
            Better::Higher => ours / theirs,
            Better::Lower => theirs / ours,
        };
        let rounds: Vec<f64> =
            ours.samples.iter().zip(&peer.samples).map(|(a, b)| ratio(*a, *b)).collect();
        let of_medians = ratio(median(&ours.samples), median(&peer.samples));
        let (least, greatest) = extremes(&rounds);
        // What took no hundredth of a second has no ratio.
        let text = match of_medians.is_finite() && of_medians > 0.0 {
            true => format!("**{of_medians:.2}×** ({least:.2} … {greatest:.2})"),
            false => String::new(),
        };
        line(measure, peer, &text);
    }
}

fn line(measure: &str, series: &Series, ratio: &str) {
    let (least, greatest) = extremes(&series.samples);
    println!(
        "| {measure} | {} | {} | {} | {} | {ratio} |",
        series.system,
        figure(median(&series.samples)),
        figure(least),
        figure(greatest)
    );
}

/// A table with a column for each system and a row for each measure.
pub struct Table {
    systems: Vec<&'static str>,
    /// In the order in which they were first added: a measure, and the samples of each system.
    rows: Vec<(&'static str, Vec<Vec<f64>>)>,
}

impl Table {
    /// A table without rows.
    pub fn new(systems: &[&'static str]) -> Table {
        Table { systems: systems.to_vec(), rows: Vec::new() }
    }

    /// Adds a sample of a system, given by its place.
    pub fn add(&mut self, system: usize, measure: &'static str, sample: f64) {
        let row = self.rows.iter().position(|(name, _)| *name == measure);
        let row = row.unwrap_or_else(|| {
            self.rows.push((measure, vec![Vec::new(); self.systems.len()]));
            self.rows.len() - 1
        });
        self.rows[row].1[system].push(sample);
    }

    /// Prints it: the median and, in brackets, the least and the greatest sample.
    pub fn print(&self, title: &str) {
        println!("\n## {title}\n");
        println!("| | {} |", self.systems.join(" | "));
        println!("|---|{}", "---:|".repeat(self.systems.len()));
        for (measure, systems) in &self.rows {
            let cells: Vec<String> = systems.iter().map(|samples| cell(samples)).collect();
            println!("| {measure} | {} |", cells.join(" | "));
        }
    }
}

/// Nothing for a system that was not measured; no spread if there is none.
pub fn cell(samples: &[f64]) -> String {
    let (least, greatest) = extremes(samples);
    let (median, least, greatest) = (figure(median(samples)), figure(least), figure(greatest));
    match samples.len() {
        0 => String::new(),
        _ if least == greatest => median,
        _ => format!("{median} ({least} … {greatest})"),
    }
}

/// Three digits that mean something.
fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => thousands(value),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// A value of more than three digits before the point, rounded to three: `713,000`.
fn thousands(value: f64) -> String {
    let unit = 10_f64.powf(value.abs().log10().floor() - 2.0);
    let digits = format!("{:.0}", (value / unit).round() * unit);
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|g| std::str::from_utf8(g).ok()).collect();
    groups.join(",")
}

/// The median; of an even number of samples the mean of the two in the middle.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

fn extremes(samples: &[f64]) -> (f64, f64) {
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    (least, samples.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}

/// The value below which a share of the samples lies: the nearest rank.
pub fn percentile(sorted: &[u64], share: f64) -> u64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0)
}
