//! Pure: content negotiation between OpenMetrics and Prometheus' text format, and the conversion from one to the other.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>, <https://prometheus.io/docs/instrumenting/content_negotiation/>

use std::fmt::Write as _;

/// Exposition format of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.0, for clients that ask for it.
    OpenMetrics,
    /// Prometheus' text format 0.0.4, which every scraper reads.
    Text,
}

impl Exposition {
    /// The exposition for a client's `Accept` headers: OpenMetrics if they name it with at least the quality of plain text.
    #[must_use]
    pub fn accepted<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        let ranges: Vec<(String, f32)> = accept
            .into_iter()
            .flat_map(|header| header.split(','))
            .map(media_range)
            .collect();
        let quality = |name: &str| {
            let of_name = ranges.iter().filter(|(range, _)| range == name);
            of_name.map(|(_, quality)| *quality).reduce(f32::max)
        };
        match quality("application/openmetrics-text") {
            Some(wanted) if wanted > 0.0 && wanted >= quality("text/plain").unwrap_or(0.0) => Self::OpenMetrics,
            _ => Self::Text,
        }
    }

    /// Its name in HTTP.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// `open_metrics`, whole families in OpenMetrics, in this text.
    #[must_use]
    pub fn of(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Text => to_text(&open_metrics),
        }
    }
}

/// Name and quality of one media range (RFC 9110, 12.5.1); other parameters do not matter.
fn media_range(range: &str) -> (String, f32) {
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let quality = parts
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
        .map(|(_, quality)| quality.trim().parse().unwrap_or(0.0));
    (name, quality.unwrap_or(1.0))
}

/// OpenMetrics names the family, the text format each sample: a counter `x` has the sample `x_total`, and that is the name of its type.
fn to_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help: Option<(&str, &str)> = None;
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(family), words) => help = Some((family, words.unwrap_or_default())),
            (Some("#"), Some("TYPE"), Some(family), Some(type_)) => {
                let (suffix, type_) = match type_ {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "stateset" => ("", "gauge"),
                    "unknown" => ("", "untyped"),
                    same => ("", same),
                };
                if let Some((_, words)) = help.take().filter(|(of, _)| *of == family) {
                    // Only here a quotation mark is nothing special.
                    let _ = writeln!(text, "# HELP {family}{suffix} {}", words.replace("\\\"", "\""));
                }
                let _ = writeln!(text, "# TYPE {family}{suffix} {type_}");
            }
            (Some("#"), ..) => {}
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_open_metrics_only_where_it_asks_for_it() {
        let of = |accept: &str| Exposition::accepted([accept]);
        // Prometheus 3.
        assert_eq!(
            of(
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
            ),
            Exposition::OpenMetrics
        );
        assert_eq!(of("application/openmetrics-text"), Exposition::OpenMetrics);
        assert_eq!(
            of("Application/OpenMetrics-Text; Version=1.0.0"),
            Exposition::OpenMetrics
        );
        for accept in [
            "",
            "*/*",
            "text/plain",
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "text/plain, application/openmetrics-text;q=0.1",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=nonsense",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "application/json",
            ";;;,,q=",
        ] {
            assert_eq!(of(accept), Exposition::Text, "{accept}");
        }
        assert_eq!(Exposition::accepted([]), Exposition::Text);
        assert_eq!(
            Exposition::accepted(["text/plain;q=0.1", "application/openmetrics-text"]),
            Exposition::OpenMetrics
        );
    }

    #[test]
    fn every_kind_of_metric_has_its_name_and_type_in_the_text_format() {
        let open_metrics = "\
# HELP a_runs Runs that \\\"ended\\\".
# TYPE a_runs counter
a_runs_total{task=\"x # y\"} 7
# HELP a_age_seconds Age.
# TYPE a_age_seconds gauge
# UNIT a_age_seconds seconds
a_age_seconds 1.5
# HELP a_build Build.
# TYPE a_build info
a_build_info{version=\"1\"} 1
# HELP a_run_seconds Length.
# TYPE a_run_seconds histogram
# UNIT a_run_seconds seconds
a_run_seconds_bucket{le=\"1.0\"} 1
a_run_seconds_sum 0.5
a_run_seconds_count 1
# TYPE a_odd unknown
a_odd 1
# EOF
";
        assert_eq!(
            Exposition::Text.of(open_metrics.to_owned()),
            "\
# HELP a_runs_total Runs that \"ended\".
# TYPE a_runs_total counter
a_runs_total{task=\"x # y\"} 7
# HELP a_age_seconds Age.
# TYPE a_age_seconds gauge
a_age_seconds 1.5
# HELP a_build_info Build.
# TYPE a_build_info gauge
a_build_info{version=\"1\"} 1
# HELP a_run_seconds Length.
# TYPE a_run_seconds histogram
a_run_seconds_bucket{le=\"1.0\"} 1
a_run_seconds_sum 0.5
a_run_seconds_count 1
# TYPE a_odd untyped
a_odd 1
"
        );
        assert_eq!(Exposition::OpenMetrics.of(open_metrics.to_owned()), open_metrics);
    }
}
