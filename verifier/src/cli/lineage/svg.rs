//! A lineage as SVG: a row for each step, indented by how far it is from its origin, joined by what it hangs from.

use super::drawing::{Drawing, Words};

/// Height of a row, in px.
const ROW_PX: usize = 40;
/// Height of a box, in px.
const BOX_PX: usize = 30;
/// Indentation of one step, in px.
const INDENT_PX: usize = 36;
/// Space around everything, in px.
const MARGIN_PX: usize = 16;
/// Width of a character of the monospaced font at 12 px, rounded up, in px.
const CHARACTER_PX: usize = 8;

/// One SVG 1.1 document, without scripts, styles or references to anything outside of it.
pub(super) fn written(drawing: &Drawing) -> String {
    let rows = drawing.rows();
    let left = |depth: usize| MARGIN_PX.saturating_add(depth.saturating_mul(INDENT_PX));
    let top = |at: usize| MARGIN_PX.saturating_add(at.saturating_mul(ROW_PX));
    let labels: Vec<String> = rows.iter().map(|(_, words)| label(words)).collect();
    let widths: Vec<usize> = labels
        .iter()
        .map(|label| label.chars().count().saturating_mul(CHARACTER_PX).saturating_add(MARGIN_PX))
        .collect();
    let wide = rows.iter().zip(&widths).map(|((row, _), width)| left(row.depth).saturating_add(*width)).max();
    let (width, height) = (wide.unwrap_or(0).saturating_add(MARGIN_PX), top(rows.len()).saturating_add(MARGIN_PX));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"monospace\" font-size=\"12\">\n<title>Lineage</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (at, (row, _)) in rows.iter().enumerate() {
        let Some((stem_at, stem)) = row.stem.and_then(|stem| Some((stem, rows.get(stem)?))) else { continue };
        let (x, from) = (left(stem.0.depth).saturating_add(INDENT_PX / 2), top(stem_at).saturating_add(BOX_PX));
        let (to_x, to_y) = (left(row.depth), top(at).saturating_add(BOX_PX / 2));
        out.push_str(&format!("<path d=\"M{x} {from}V{to_y}H{to_x}\" fill=\"none\" stroke=\"#666666\"/>\n"));
    }
    for (at, ((row, words), (label, width))) in rows.iter().zip(labels.iter().zip(&widths)).enumerate() {
        let (x, y) = (left(row.depth), top(at));
        let (fill, dash) = (fill(words), if row.again { " stroke-dasharray=\"4 3\"" } else { "" });
        let stroke = if words.marked { 3 } else { 1 };
        out.push_str(&format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{BOX_PX}\" rx=\"6\" fill=\"{fill}\" stroke=\"#333333\" \
             stroke-width=\"{stroke}\"{dash}/>\n<text x=\"{}\" y=\"{}\">{}</text>\n",
            x.saturating_add(MARGIN_PX / 2),
            y.saturating_add(20),
            escaped(label)
        ));
    }
    out.push_str("</svg>\n");
    out
}

fn label(words: &Words) -> String {
    let parts = [&words.what, &words.place, &words.detail, &words.at];
    parts.into_iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("  ")
}

/// What begins is blue, what goes on green, what ends grey, what was refused or stopped red.
fn fill(words: &Words) -> &'static str {
    match words.what.split(' ').nth(1) {
        Some("enrolment" | "intent") => "#dbe9f6",
        Some("authorization" | "release" | "renewal") => "#dff0d8",
        Some("denial" | "halt" | "quarantine" | "alarm" | "revocation") => "#f6d5d5",
        Some(_) | None => "#eeeeee",
    }
}

/// Text within an element: what XML 1.0 (§2.4) reserves is written out, and what it forbids (§2.2) was escaped before.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_command_stays_text() {
        assert_eq!(escaped("<a b=\"&\">"), "&lt;a b=&quot;&amp;&quot;&gt;");
    }
}
