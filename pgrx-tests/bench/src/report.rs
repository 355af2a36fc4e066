//! The rows of the table: for a terminal, as JSON, as Markdown.

use std::fmt::Write as _;

use serde_json::{json, Value};

use crate::sample::Sample;

/// Of the two measured values; the ratio has none.
#[derive(Clone, Copy, PartialEq)]
pub enum Unit {
    Seconds,
    PerSecond,
    Bytes,
}

/// The figures that the ratio is held against.
#[derive(Clone, Copy)]
pub enum Goal {
    AtMost {
        reach: f64,
        aim: f64,
    },
    AtLeast {
        reach: f64,
        aim: f64,
    },
    /// Measured to be known.
    Report,
}

impl Goal {
    /// An upper bound without a further aim.
    pub fn below(reach: f64) -> Self {
        Goal::AtMost { reach, aim: reach }
    }

    fn verdict(self, ratio: f64) -> &'static str {
        let (reached, aimed) = match self {
            Goal::AtMost { reach, aim } => (ratio <= reach, ratio <= aim),
            Goal::AtLeast { reach, aim } => (ratio >= reach, ratio >= aim),
            Goal::Report => return "",
        };
        match (reached, aimed) {
            (true, true) if !self.aims_beyond() => "reached",
            (_, true) => "aim",
            (true, false) => "reached",
            (false, false) => "missed",
        }
    }

    fn aims_beyond(self) -> bool {
        !matches!(self, Goal::AtMost { reach, aim } | Goal::AtLeast { reach, aim } if reach == aim)
    }

    fn text(self) -> String {
        match self {
            Goal::AtMost { reach, .. } if !self.aims_beyond() => format!("<= {reach}"),
            Goal::AtMost { reach, aim } => format!("<= {reach} ({aim})"),
            Goal::AtLeast { reach, aim } => format!(">= {reach} ({aim})"),
            Goal::Report => "-".into(),
        }
    }
}

pub struct Row {
    /// The group that measured it: what `--only` takes.
    pub group: &'static str,
    pub work: String,
    pub baseline: String,
    pub unit: Unit,
    pub ours: Sample,
    pub theirs: Sample,
    pub ratio: Sample,
    pub goal: Goal,
}

impl Row {
    /// A comparison run by run.
    pub fn new(
        group: &'static str,
        work: impl Into<String>,
        baseline: impl Into<String>,
        unit: Unit,
        (ours, theirs): (&Sample, &Sample),
        goal: Goal,
    ) -> Self {
        let (work, baseline) = (work.into(), baseline.into());
        let ratio = ours.over(theirs);
        Row { group, work, baseline, unit, ours: ours.clone(), theirs: theirs.clone(), ratio, goal }
    }
}

/// One line of a plot.
pub struct Series {
    pub label: &'static str,
    /// x, and seconds.
    pub points: Vec<(f64, Sample)>,
}

pub struct Plot {
    /// The file's name, without `.svg`.
    pub name: &'static str,
    pub title: &'static str,
    pub x: &'static str,
    pub series: Vec<Series>,
}

/// Everything that a run has found.
#[derive(Default)]
pub struct Report {
    /// Of the machine, the server and the data, one fact a line.
    pub conditions: Vec<String>,
    pub rows: Vec<Row>,
    pub notes: Vec<String>,
    pub plots: Vec<Plot>,
}

impl Report {
    pub fn condition(&mut self, text: impl Into<String>) {
        let text = text.into();
        println!("# {text}");
        self.conditions.push(text);
    }

    /// Adds a row and shows it at once: a whole run takes long.
    pub fn row(&mut self, row: Row) {
        println!("{}", row.line());
        self.rows.push(row);
    }

    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        println!("  note: {text}");
        self.notes.push(text);
    }

    /// How many figures are missed.
    pub fn missed(&self) -> usize {
        self.rows.iter().filter(|r| r.verdict() == "missed").count()
    }

    pub fn table(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "{}", heading());
        for row in &self.rows {
            let _ = writeln!(out, "{}", row.line());
        }
        for note in &self.notes {
            let _ = writeln!(out, "note: {note}");
        }
        out
    }

    pub fn markdown(&self) -> String {
        let mut out = String::new();
        for line in &self.conditions {
            let _ = writeln!(out, "- {line}");
        }
        out.push_str("\n| work | ours | baseline | | ratio | spread | bound (aim) | |\n");
        out.push_str("| --- | ---: | --- | ---: | ---: | ---: | --- | --- |\n");
        for row in &self.rows {
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | **{}** | {} to {} | {} | {} |",
                row.work,
                row.unit.show(row.ours.median()),
                row.baseline,
                row.unit.show(row.theirs.median()),
                times(row.ratio.median()),
                times(row.ratio.quantile(0.25)),
                times(row.ratio.quantile(0.75)),
                row.goal.text(),
                row.verdict(),
            );
        }
        out.push('\n');
        for note in &self.notes {
            let _ = writeln!(out, "- {note}");
        }
        out
    }

    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|r| {
                json!({
                    "group": r.group, "work": r.work, "baseline": r.baseline, "unit": r.unit.name(),
                    "ours": spread(&r.ours), "theirs": spread(&r.theirs), "ratio": spread(&r.ratio),
                    "goal": r.goal.text(), "verdict": r.verdict(),
                })
            })
            .collect();
        let plots: Vec<Value> = self
            .plots
            .iter()
            .map(|p| {
                let series: Vec<Value> = p
                    .series
                    .iter()
                    .map(|s| {
                        let points: Vec<Value> =
                            s.points.iter().map(|(x, y)| json!({ "x": x, "seconds": spread(y) })).collect();
                        json!({ "label": s.label, "points": points })
                    })
                    .collect();
                json!({ "name": p.name, "title": p.title, "x": p.x, "series": series })
            })
            .collect();
        json!({ "conditions": self.conditions, "rows": rows, "notes": self.notes, "plots": plots })
    }
}

pub fn heading() -> String {
    format!(
        "{:<60} {:>9}  {:<55} {:>9} {:>7} {:>15}  {:<14}",
        "work", "ours", "baseline", "", "ratio", "quartiles", "bound (aim)"
    )
}

impl Row {
    fn verdict(&self) -> &'static str {
        self.goal.verdict(self.ratio.median())
    }

    fn line(&self) -> String {
        let spread = format!("{} to {}", times(self.ratio.quantile(0.25)), times(self.ratio.quantile(0.75)));
        format!(
            "{:<60} {:>9}  {:<55} {:>9} {:>7} {:>15}  {:<14} {}",
            self.work,
            self.unit.show(self.ours.median()),
            self.baseline,
            self.unit.show(self.theirs.median()),
            times(self.ratio.median()),
            spread,
            self.goal.text(),
            self.verdict()
        )
    }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Seconds => "seconds",
            Unit::PerSecond => "per second",
            Unit::Bytes => "bytes",
        }
    }

    /// Three digits that count.
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::Seconds if value < 0.001 => format!("{} us", digits(value * 1e6)),
            Unit::Seconds if value < 1.0 => format!("{} ms", digits(value * 1e3)),
            Unit::Seconds => format!("{} s", digits(value)),
            Unit::PerSecond => format!("{value:.0}/s"),
            Unit::Bytes => format!("{} MB", digits(value / 1e6)),
        }
    }
}

fn digits(value: f64) -> String {
    let places = if value >= 100.0 { 0 } else { usize::from(value < 10.0) + 1 };
    format!("{value:.places$}")
}

/// A ratio: two places, three where that is too coarse.
fn times(ratio: f64) -> String {
    match ratio {
        r if r < 0.1 => format!("{r:.3}"),
        r if r < 10.0 => format!("{r:.2}"),
        r => format!("{r:.1}"),
    }
}

fn spread(sample: &Sample) -> Value {
    json!({
        "median": sample.median(), "q1": sample.quantile(0.25), "q3": sample.quantile(0.75),
        "min": sample.least(), "max": sample.most(), "runs": sample.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_reached_on_the_right_side() {
        let at_most = Goal::AtMost { reach: 0.45, aim: 0.3 };
        assert_eq!([at_most.verdict(0.46), at_most.verdict(0.45), at_most.verdict(0.3)], ["missed", "reached", "aim"]);
        let at_least = Goal::AtLeast { reach: 0.9, aim: 0.97 };
        assert_eq!(
            [at_least.verdict(0.89), at_least.verdict(0.9), at_least.verdict(1.0)],
            ["missed", "reached", "aim"]
        );
        assert_eq!([Goal::below(8.0).verdict(7.0), Goal::below(8.0).verdict(f64::NAN)], ["reached", "missed"]);
    }

    #[test]
    fn values_are_shown_short() {
        let shown = [1.5e-6, 0.000_25, 0.0123, 2.0].map(|s| Unit::Seconds.show(s));
        assert_eq!(shown, ["1.50 us", "250 us", "12.3 ms", "2.00 s"]);
    }
}
