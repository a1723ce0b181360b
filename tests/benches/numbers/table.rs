//! The table of what was measured.

use std::time::Duration;

use mapa_refresh_tests::progress;

/// Rows, in the order in which they were measured.
#[derive(Default)]
pub struct Table(Vec<[String; 3]>);

impl Table {
    pub fn row(&mut self, what: &str, measured: String, beside: &str) {
        progress::say(&format!("{what}: {measured}"));
        self.0.push([what.to_owned(), measured, beside.to_owned()]);
    }

    pub fn print(&self) {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        println!("\n| what | measured | limit or peer |\n|---|---|---|");
        for [what, measured, beside] in &self.0 {
            println!("| {what} | {measured} | {beside} |");
        }
        let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = model
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("unknown processor", |name| name.trim_start_matches([' ', '\t', ':']));
        println!("\n{cores} cores, {model}");
    }
}

fn quantile(sorted: &[Duration], of: f64) -> Duration {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index within the slice"
    )]
    let index = ((sorted.len() - 1) as f64 * of).ceil() as usize;
    sorted[index]
}

pub fn p50_p99(mut latencies: Vec<Duration>) -> String {
    latencies.sort();
    let ms = |of| quantile(&latencies, of).as_secs_f64() * 1e3;
    format!(
        "p50 {:.0} ms, p99 {:.0} ms (n = {})",
        ms(0.5),
        ms(0.99),
        latencies.len()
    )
}
