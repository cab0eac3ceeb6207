//! Which charts there are, and what is in them.

use crate::drawing::{Chart, Point, Series};
use crate::results::{Results, Spread};
use crate::work::{APPEND_LENS, DURABLE_THREADS, FAN_OUT_READERS, Unit, Work};

/// Every chart, with the name of its file.
pub(crate) fn all(results: &Results) -> Vec<(&'static str, String)> {
    let same = |_: Work, spread: Spread| spread;
    let fan_out = FAN_OUT_READERS.map(|readers| (Work::FanOut { readers }, readers.to_string()));
    let append = APPEND_LENS.map(|len| (Work::Append { len }, format!("{len} bytes")));
    let durable = DURABLE_THREADS.map(|threads| (Work::Durable { threads }, threads.to_string()));
    let read = [
        (Work::Scan, "forward".to_owned()),
        (Work::Read { threads: 1 }, "at random".to_owned()),
        (Work::FanOut { readers: 1 }, "at random, beside a writer".to_owned()),
    ];
    let charts = [
        ("fan-out.svg", {
            let title = "Fan-out: random reads of 256 bytes beside a writer that runs flat out";
            chart(
                results,
                title,
                "million reads a second, all readers together (more is better)",
                "readers",
                &fan_out,
                same,
            )
        }),
        ("append.svg", {
            let title = "Appends without a sync, one call a record";
            chart(
                results,
                title,
                "nanoseconds a record (less is better)",
                "length of a record",
                &append,
                same,
            )
        }),
        ("durable.svg", {
            let title = "Durable appends of 256 bytes";
            chart(results, title, "appends acknowledged a second (more is better)", "threads", &durable, same)
        }),
        ("read.svg", {
            let title = "Reading records of 256 bytes, one thread";
            let axis = "nanoseconds a record (less is better)";
            let mut chart = chart(results, title, axis, "", &read, in_nanoseconds);
            chart.joined = false;
            chart
        }),
    ];
    charts
        .into_iter()
        .filter(|(_, chart)| !chart.series.is_empty())
        .map(|(file, chart)| (file, chart.draw()))
        .collect()
}

/// A chart's title, for those who do not see it.
pub(crate) fn title(svg: &str) -> &str {
    let title = svg.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    title.map_or("", |(title, _)| title)
}

/// One series a contender, one point a work.
fn chart(
    results: &Results,
    title: &str,
    y_axis: &str,
    x_axis: &str,
    works: &[(Work, String)],
    unit: impl Fn(Work, Spread) -> Spread,
) -> Chart {
    let mut series = Vec::new();
    let mut missing: Vec<String> = Vec::new();
    for (style, contender) in results.contenders.iter().enumerate() {
        let points: Vec<Option<Point>> = works
            .iter()
            .map(|&(work, _)| {
                let Spread { least, median, most } = unit(work, results.spread(work, &contender.name)?);
                Some(Point { least, median, most })
            })
            .collect();
        match points.iter().any(Option::is_some) {
            true => series.push(Series { name: contender.name.clone(), style, points }),
            false => missing.extend(lack(results, works, &contender.name)),
        }
    }
    Chart {
        title: title.to_owned(),
        y_axis: y_axis.to_owned(),
        x_axis: x_axis.to_owned(),
        categories: works.iter().map(|(_, name)| name.clone()).collect(),
        series,
        joined: true,
        note: missing.join("; "),
    }
}

/// Million reads a second become nanoseconds a read.
fn in_nanoseconds(work: Work, spread: Spread) -> Spread {
    match work.unit() {
        Unit::MillionReadsASecond => Spread {
            least: 1000.0 / spread.most,
            median: 1000.0 / spread.median,
            most: 1000.0 / spread.least,
        },
        _ => spread,
    }
}

/// Why a contender is not in a chart.
fn lack(results: &Results, works: &[(Work, String)], name: &str) -> Option<String> {
    let cells = works.iter().filter_map(|&(work, _)| results.row(work)).flat_map(|row| &row.cells);
    let lacks = cells.filter(|cell| cell.contender == name).find_map(|cell| cell.lacks.as_ref())?;
    Some(format!("not {name}: {lacks}"))
}
