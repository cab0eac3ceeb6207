//! A chart as SVG: a logarithmic axis, a line with whiskers a series, its name at the end of it.

use std::fmt::Write;

use crate::table::figure;

const WIDTH: f64 = 820.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 68.0;
const BOTTOM: f64 = 74.0;

/// Between the points of two series in one category, so that whiskers do not cover each other.
const ASIDE: f64 = 5.0;

/// Between two names at the end of their lines, at least.
const NAMES_APART: f64 = 16.0;

/// Light enough for a dark page and dark enough for a light one.
const COLOURS: [&str; 9] =
    ["#e5484d", "#8b949e", "#bf8700", "#8957e5", "#2f81f7", "#d6409f", "#2da44e", "#1b9aaa", "#a0765b"];

pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) y_axis: String,
    pub(crate) x_axis: String,
    pub(crate) categories: Vec<String>,
    pub(crate) series: Vec<Series>,
    /// Whether categories follow from each other.
    pub(crate) joined: bool,
    pub(crate) note: String,
}

pub(crate) struct Series {
    pub(crate) name: String,
    /// Tells its colour and its marker, the same in every chart.
    pub(crate) style: usize,
    /// One a category.
    pub(crate) points: Vec<Option<Point>>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Chart {
    pub(crate) fn draw(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" role=\"img\">\n<title>{}</title>\n{STYLE}",
            escaped(&self.title)
        );
        let _ = writeln!(svg, "<rect class=\"page\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/>");
        text(&mut svg, "title", LEFT - 50.0, 28.0, &self.title);
        text(&mut svg, "axis", LEFT - 50.0, 50.0, &self.y_axis);
        let scale = Scale::over(self.series.iter().flat_map(|series| series.points.iter().flatten()));
        self.draw_axes(&mut svg, &scale);
        for (at, series) in self.series.iter().enumerate() {
            self.draw_series(&mut svg, &scale, at, series);
        }
        self.draw_names(&mut svg, &scale);
        svg += "</svg>\n";
        svg
    }

    fn draw_axes(&self, svg: &mut String, scale: &Scale) {
        let right = WIDTH - RIGHT;
        for value in scale.ticks() {
            let y = scale.y(value);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>"
            );
            text(svg, "axis end", LEFT - 8.0, y + 4.0, &tick(value));
        }
        for (at, category) in self.categories.iter().enumerate() {
            text(svg, "axis middle", self.x(at), HEIGHT - BOTTOM + 20.0, category);
        }
        text(svg, "axis middle", (LEFT + right) / 2.0, HEIGHT - BOTTOM + 40.0, &self.x_axis);
        text(svg, "note", LEFT - 50.0, HEIGHT - 12.0, &self.note);
    }

    fn draw_series(&self, svg: &mut String, scale: &Scale, at: usize, series: &Series) {
        let colour = COLOURS[series.style % COLOURS.len()];
        // The first contender is what the chart is about.
        let width = if series.style == 0 { 3.0 } else { 1.6 };
        let _ = writeln!(svg, "<g stroke=\"{colour}\" fill=\"{colour}\" stroke-width=\"{width}\">");
        let places: Vec<(f64, Point)> = series
            .points
            .iter()
            .enumerate()
            .filter_map(|(category, point)| Some((self.aside(at, category), (*point)?)))
            .collect();
        if self.joined {
            let line: Vec<String> =
                places.iter().map(|(x, point)| format!("{x:.1},{:.1}", scale.y(point.median))).collect();
            let _ = writeln!(svg, "<polyline fill=\"none\" points=\"{}\"/>", line.join(" "));
        }
        for (x, point) in places {
            let (low, high) = (scale.y(point.least), scale.y(point.most));
            let (from, to) = (x - 3.0, x + 3.0);
            let _ = writeln!(
                svg,
                "<path stroke-width=\"1.2\" d=\"M{x:.1} {low:.1}V{high:.1}M{from:.1} {low:.1}H{to:.1}M{from:.1} \
                 {high:.1}H{to:.1}\"/>"
            );
            svg.push_str(&marker(series.style, x, scale.y(point.median)));
        }
        *svg += "</g>\n";
    }

    /// Names beside the last points, moved apart where they would lie on each other.
    fn draw_names(&self, svg: &mut String, scale: &Scale) {
        let mut names: Vec<(f64, &Series)> = self
            .series
            .iter()
            .filter_map(|series| Some((scale.y(series.points.iter().flatten().next_back()?.median), series)))
            .collect();
        names.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut lowest = TOP;
        for (y, _) in &mut names {
            *y = y.max(lowest);
            lowest = *y + NAMES_APART;
        }
        let mut highest = HEIGHT - BOTTOM + 4.0;
        for (y, _) in names.iter_mut().rev() {
            *y = y.min(highest);
            highest = *y - NAMES_APART;
        }
        let x = WIDTH - RIGHT + 14.0;
        for (y, series) in names {
            let colour = COLOURS[series.style % COLOURS.len()];
            let _ =
                writeln!(svg, "<g stroke=\"{colour}\" fill=\"{colour}\">{}</g>", marker(series.style, x, y));
            let class = if series.style == 0 { "name first" } else { "name" };
            text(svg, class, x + 10.0, y + 4.0, &series.name);
        }
    }

    fn x(&self, category: usize) -> f64 {
        let room = (WIDTH - RIGHT - LEFT) / self.categories.len() as f64;
        LEFT + room * (category as f64 + 0.5)
    }

    /// Where the series that is `at` in order has its point.
    fn aside(&self, at: usize, category: usize) -> f64 {
        self.x(category) + (at as f64 - (self.series.len() as f64 - 1.0) / 2.0) * ASIDE
    }
}

/// The logarithmic axis, from a round value to another.
struct Scale {
    least: f64,
    most: f64,
}

impl Scale {
    fn over<'a>(points: impl Iterator<Item = &'a Point>) -> Self {
        let (mut least, mut most) = (f64::INFINITY, 0f64);
        for point in points {
            least = least.min(point.least);
            most = most.max(point.most);
        }
        let round = Self::round_values();
        Self {
            least: round.clone().filter(|&value| value <= least).last().unwrap_or(least),
            most: round.clone().find(|&value| value >= most).unwrap_or(most),
        }
    }

    /// 1, 2 and 5 times each power of ten.
    fn round_values() -> impl Iterator<Item = f64> + Clone {
        (-9..=15).flat_map(|power| [1.0, 2.0, 5.0].map(|times| times * 10f64.powi(power)))
    }

    /// The values that get a line: powers of ten alone where there are many.
    fn ticks(&self) -> impl Iterator<Item = f64> {
        let decades = (self.most / self.least).log10();
        let (least, most) = (self.least, self.most);
        Self::round_values()
            .enumerate()
            .filter(move |(at, _)| decades <= 3.0 || at % 3 == 0)
            .map(|(_, value)| value)
            .filter(move |value| (least * 0.999..=most * 1.001).contains(value))
    }

    fn y(&self, value: f64) -> f64 {
        let part = (value / self.least).ln() / (self.most / self.least).ln();
        HEIGHT - BOTTOM - part * (HEIGHT - BOTTOM - TOP)
    }
}

/// A round value, without the zeros that only fill up.
fn tick(value: f64) -> String {
    let text = figure(value);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A shape, so that series can be told apart without their colours.
fn marker(style: usize, x: f64, y: f64) -> String {
    match style % 5 {
        0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>\n"),
        1 => format!("<rect x=\"{:.1}\" y=\"{:.1}\" width=\"7\" height=\"7\"/>\n", x - 3.5, y - 3.5),
        2 => format!("<path d=\"M{x:.1} {:.1}l4.5 8h-9z\"/>\n", y - 5.0),
        3 => format!("<path d=\"M{x:.1} {:.1}l5 5l-5 5l-5 -5z\"/>\n", y - 5.0),
        _ => format!("<circle class=\"hollow\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>\n"),
    }
}

fn text(svg: &mut String, class: &str, x: f64, y: f64, text: &str) {
    if !text.is_empty() {
        let _ = writeln!(svg, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(text));
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The page's colours follow the reader's.
const STYLE: &str = "<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.title { font-size: 16px; font-weight: 600; }
.axis, .note { fill: #59636e; }
.note { font-size: 11px; }
.first { font-weight: 700; }
.middle { text-anchor: middle; }
.end { text-anchor: end; }
.page, .hollow { fill: #ffffff; }
.grid { stroke: #d1d9e0; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .axis, .note { fill: #9198a1; }
  .page, .hollow { fill: #0d1117; }
  .grid { stroke: #3d444d; }
}
</style>
";

#[cfg(test)]
mod tests {
    use super::*;

    fn point(median: f64) -> Point {
        Point { least: median / 2.0, median, most: median * 2.0 }
    }

    #[test]
    fn the_axis_holds_every_whisker() {
        for median in [0.003, 1.0, 7.0, 54_321.0] {
            let scale = Scale::over([point(median), point(median * 30.0)].iter());
            assert!(scale.least <= median / 2.0 && scale.most >= median * 60.0, "{median}");
            assert!(scale.y(median / 2.0) <= HEIGHT - BOTTOM + 1e-6 && scale.y(median * 60.0) >= TOP - 1e-6);
            assert!(scale.ticks().count() >= 2);
        }
    }

    #[test]
    fn a_chart_names_every_series_and_escapes_what_it_is_given() {
        let series = ["a", "b<c"].map(|name| Series {
            name: name.to_owned(),
            style: 1,
            points: vec![Some(point(10.0)), None, Some(point(20.0))],
        });
        let svg = Chart {
            title: "x & y".to_owned(),
            y_axis: String::new(),
            x_axis: String::new(),
            categories: ["1", "2", "3"].map(str::to_owned).into(),
            series: series.into(),
            joined: true,
            note: String::new(),
        }
        .draw();
        assert!(svg.contains("<title>x &amp; y</title>") && svg.contains("b&lt;c</text>"));
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
