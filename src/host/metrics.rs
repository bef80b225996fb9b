//! Prometheus' text format, version 0.0.4. Called by each role's `/metrics`.

use std::fmt::{Display, Write as _};

/// A page of metrics being written.
#[derive(Debug, Default)]
pub struct Metrics {
    text: String,
}

impl Metrics {
    /// Begins a metric that goes up and down; samples follow.
    pub fn gauge(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// Begins a metric that only grows; its name ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("writing to a string cannot fail");
        Family { name, text: &mut self.text }
    }

    /// The page.
    pub fn finish(self) -> String {
        self.text
    }
}

/// One metric's samples.
#[derive(Debug)]
pub struct Family<'a> {
    name: &'static str,
    text: &'a mut String,
}

impl Family<'_> {
    /// A sample with these labels.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        writeln!(self.text, "{}{labels} {value}", self.name).expect("writing to a string cannot fail");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_escaped() {
        let mut metrics = Metrics::default();
        metrics.gauge("howdah_up", "Is it?").sample(&[], 1).sample(&[("a", "x\"y")], 2);
        let page = "# HELP howdah_up Is it?\n# TYPE howdah_up gauge\nhowdah_up 1\nhowdah_up{a=\"x\\\"y\"} 2\n";
        assert_eq!(metrics.finish(), page);
    }
}
