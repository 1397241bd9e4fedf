//! A lineage in Graphviz's language.

use super::drawing::Drawing;

/// A digraph; what follows from another domain's record besides is dashed.
pub(super) fn written(drawing: &Drawing) -> String {
    let mut out =
        String::from("digraph lineage {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n");
    let rows = drawing.rows();
    for (at, (row, words)) in rows.iter().enumerate() {
        if row.again {
            continue;
        }
        let lines = [&words.what, &words.place, &words.detail, &words.at];
        let label: Vec<String> = lines.into_iter().filter(|line| !line.is_empty()).map(|line| quoted(line)).collect();
        let bold = if words.marked { ", penwidth=2" } else { "" };
        out.push_str(&format!("  r{at} [label=\"{}\"{bold}];\n", label.join("\\n")));
    }
    for (at, (row, _)) in rows.iter().enumerate() {
        let first = |place: &usize| {
            rows.iter().position(|(other, _)| !other.again && other.leaves.contains(place)).unwrap_or(at)
        };
        let to = row.leaves.first().map_or(at, first);
        if let Some(stem) = row.stem {
            out.push_str(&format!("  r{stem} -> r{to};\n"));
        }
        let leaf = row.leaves.first().and_then(|place| drawing.tree.leaves().get(*place)).filter(|_| !row.again);
        for other in leaf.into_iter().flat_map(|leaf| &leaf.also).filter(|other| drawing.taken.contains(*other)) {
            out.push_str(&format!("  r{} -> r{to} [style=dashed];\n", first(other)));
        }
    }
    out.push_str("}\n");
    out
}

/// Text within a quoted label.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
