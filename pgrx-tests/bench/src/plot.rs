//! Plots as SVG: both axes logarithmic, lines with their names at the end, colours that stand out on white and on black.

use std::fmt::Write as _;

use crate::report::{Plot, Unit};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 180.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 48.0;

/// Middle tones: GitHub shows the file on a light or a dark page, and an image cannot ask which.
const COLOURS: [&str; 4] = ["#2f81f7", "#d9822b", "#2da44e", "#b35fc9"];
const INK: &str = "#808890";
/// The least distance of two names.
const LINE: f64 = 15.0;

/// A logarithmic axis over whole powers of ten.
struct Axis {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64> + Clone, start: f64, end: f64) -> Self {
        let from = values.clone().fold(f64::INFINITY, f64::min).log10().floor();
        let to = values.fold(0.0, f64::max).log10().ceil().max(from + 1.0);
        Axis { from, to, start, end }
    }

    fn at(&self, value: f64) -> f64 {
        self.start + (value.log10() - self.from) / (self.to - self.from) * (self.end - self.start)
    }

    fn powers(&self) -> impl Iterator<Item = f64> {
        (self.from as i32..=self.to as i32).map(|p| 10f64.powi(p))
    }
}

pub fn svg(plot: &Plot) -> String {
    let points = || plot.series.iter().flat_map(|s| &s.points);
    let x = Axis::new(points().map(|(x, _)| *x), LEFT, WIDTH - RIGHT);
    let y = Axis::new(points().map(|(_, y)| y.median()), HEIGHT - BOTTOM, TOP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"{INK}\">\n<title>{}</title>\n\
         <text x=\"{LEFT}\" y=\"18\" font-size=\"14\">{}</text>\n<g stroke=\"{INK}\" stroke-opacity=\"0.3\">\n",
        escape(plot.title),
        escape(plot.title)
    );
    for value in y.powers() {
        let at = y.at(value);
        let _ = writeln!(out, "<path d=\"M{LEFT} {at:.1}H{}\"/>", WIDTH - RIGHT);
    }
    for value in x.powers() {
        let at = x.at(value);
        let _ = writeln!(out, "<path d=\"M{at:.1} {TOP}V{}\"/>", HEIGHT - BOTTOM);
    }
    out.push_str("</g>\n<g text-anchor=\"end\">\n");
    for value in y.powers() {
        let _ = writeln!(out, "<text x=\"{}\" y=\"{:.1}\">{}</text>", LEFT - 6.0, y.at(value) + 4.0, seconds(value));
    }
    out.push_str("</g>\n<g text-anchor=\"middle\">\n");
    for value in x.powers() {
        let at = HEIGHT - BOTTOM + 17.0;
        let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{at}\">{}</text>", x.at(value), grouped(value));
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    let _ = writeln!(out, "<text x=\"{middle}\" y=\"{}\">{}</text>\n</g>", HEIGHT - 10.0, escape(plot.x));
    let names = places(plot.series.iter().map(|s| s.points.last().map_or(TOP, |(_, v)| y.at(v.median()))).collect());
    for (i, series) in plot.series.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let line: Vec<String> =
            series.points.iter().map(|(v, s)| format!("{:.1},{:.1}", x.at(*v), y.at(s.median()))).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for (v, s) in &series.points {
            // The quartiles behind the point.
            let (low, high) = (y.at(s.quantile(0.25)), y.at(s.quantile(0.75)));
            let (cx, cy) = (x.at(*v), y.at(s.median()));
            let _ = writeln!(out, "<path d=\"M{cx:.1} {low:.1}V{high:.1}\" stroke=\"{colour}\"/>");
            let _ = writeln!(out, "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let at = WIDTH - RIGHT + 8.0;
        let name = escape(series.label);
        let _ = writeln!(out, "<text x=\"{at}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>", names[i] + 4.0);
    }
    out.push_str("</svg>\n");
    out
}

/// Moves names apart that would stand on each other, downwards.
fn places(wanted: Vec<f64>) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let mut placed = wanted;
    for pair in order.windows(2) {
        placed[pair[1]] = placed[pair[1]].max(placed[pair[0]] + LINE);
    }
    placed
}

/// Of a whole power of ten.
fn seconds(value: f64) -> String {
    let shown = Unit::Seconds.show(value * 1.000_000_1);
    let (number, unit) = shown.split_once(' ').unwrap_or((&shown, ""));
    format!("{} {unit}", number.split('.').next().unwrap_or(number))
}

/// 1000000 as 1,000,000.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_short() {
        assert_eq!([1e-4, 1e-3, 1.0].map(seconds), ["100 us", "1 ms", "1 s"]);
        assert_eq!([1.0, 1e3, 1e6].map(grouped), ["1", "1,000", "1,000,000"]);
    }

    #[test]
    fn names_do_not_stand_on_each_other() {
        assert_eq!(places(vec![10.0, 100.0, 12.0]), [10.0, 100.0, 25.0]);
    }
}
