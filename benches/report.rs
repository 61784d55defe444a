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
        "| measure | system | median | least | greatest | AsofDB is better by (least … greatest) |"
    );
    println!("|---|---|---:|---:|---:|---:|");
}

/// Prints a line for each series; the first is AsofDB's.
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
        line(measure, peer, &format!("**{of_medians:.2}×** ({least:.2} … {greatest:.2})"));
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

/// Three digits that mean something.
fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
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
