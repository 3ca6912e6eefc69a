//! An SVG of figures over time. No more than what these plots need.

use std::fmt::Write;

/// The whole picture, and what of it is for the figures.
const SIZE: (f64, f64) = (720.0, 280.0);
const LEFT: f64 = 60.0;
const RIGHT: f64 = 700.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 240.0;

/// Colours that those see apart who do not see all.
const COLOURS: [&str; 3] = ["#0072b2", "#d55e00", "#009e73"];

/// Figures over time.
pub(crate) struct Plot {
    pub(crate) title: String,
    /// What is told upwards, from 0 to `most`.
    pub(crate) unit: String,
    pub(crate) most: f64,
    pub(crate) seconds: f64,
    pub(crate) lines: Vec<Line>,
    /// What began when.
    pub(crate) marks: Vec<(f64, String)>,
    /// What a figure is to be measured by.
    pub(crate) levels: Vec<(f64, String)>,
}

/// One figure.
pub(crate) struct Line {
    pub(crate) name: String,
    /// Seconds, and its value then.
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) is_dots: bool,
}

impl Plot {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * seconds / self.seconds.max(1e-9)
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * (value / self.most).min(1.0)
    }

    /// The picture.
    pub(crate) fn svg(&self) -> String {
        let (width, height) = SIZE;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
        );
        text(&mut svg, (LEFT, 18.0), "start", &self.title);
        self.axes(&mut svg);
        for (at, name) in &self.marks {
            let x = self.x(*at);
            line(&mut svg, (x, TOP), (x, BOTTOM), "#999999");
            text(&mut svg, (x + 4.0, TOP + 12.0), "start", name);
        }
        for (value, name) in &self.levels {
            let y = self.y(*value);
            line(&mut svg, (LEFT, y), (RIGHT, y), "#999999");
            text(&mut svg, (RIGHT, y - 4.0), "end", name);
        }
        for (place, figure) in self.lines.iter().enumerate() {
            let colour = COLOURS[place % COLOURS.len()];
            self.figure(&mut svg, figure, colour);
            let x = LEFT + 160.0 * place as f64;
            // Into a string: it cannot fail, nor can it below.
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"28\" width=\"14\" height=\"10\" fill=\"{colour}\"/>"
            );
            text(&mut svg, (x + 20.0, 37.0), "start", &figure.name);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn axes(&self, svg: &mut String) {
        const STEPS: u32 = 4;
        for step in 0..=STEPS {
            let value = self.most * f64::from(step) / f64::from(STEPS);
            let y = self.y(value);
            line(svg, (LEFT, y), (RIGHT, y), "#dddddd");
            text(
                svg,
                (LEFT - 6.0, y + 4.0),
                "end",
                &format!("{value:.3}").replace(".000", ""),
            );
        }
        for second in 0..=self.seconds as u32 {
            let x = self.x(second.into());
            text(svg, (x, BOTTOM + 16.0), "middle", &second.to_string());
        }
        text(
            svg,
            (LEFT, BOTTOM + 34.0),
            "start",
            &format!("{}, over seconds", self.unit),
        );
    }

    fn figure(&self, svg: &mut String, figure: &Line, colour: &str) {
        let points = figure.points.iter();
        let points = points.map(|(at, value)| (self.x(*at), self.y(*value)));
        if figure.is_dots {
            for (x, y) in points {
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"1.5\" fill=\"{colour}\"/>"
                );
            }
            return;
        }
        let points: Vec<_> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            points.join(" ")
        );
    }
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>",
        from.0, from.1, to.0, to.1
    );
}

/// Words. They are ours: nothing in them needs an escape.
fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, words: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#222222\">{words}</text>"
    );
}
