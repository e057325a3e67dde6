//! What pages of `docs` show of a run: tables between marker comments. The prose around them is people's and stays.

use anyhow::{Context, Result};

/// A piece of the page that a run writes.
pub struct Piece {
    /// The words in its markers.
    pub name: &'static str,
    /// What stands between them.
    pub text: String,
}

/// A table in Markdown: columns of text, then columns of figures.
pub struct Table {
    texts: usize,
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these headings, of text and of figures.
    pub fn of<Text: Into<String>>(texts: &[&str], figures: impl IntoIterator<Item = Text>) -> Self {
        let mut heading: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        heading.extend(figures.into_iter().map(Into::into));
        Self { texts: texts.len(), heading, rows: Vec::new() }
    }

    /// One row more. What is missing at its end is shown as empty.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// As text.
    pub fn text(&self) -> String {
        let line = |cells: &[String]| {
            let cells =
                (0..self.heading.len()).map(|at| cells.get(at).map_or(String::new(), |cell| cell.replace('|', "\\|")));
            format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
        };
        let rule = format!("|{}{}\n", "---|".repeat(self.texts), "--:|".repeat(self.heading.len() - self.texts));
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}{rule}{rows}", line(&self.heading))
    }
}

/// The page with this piece anew.
pub fn put(page: &str, piece: &Piece) -> Result<String> {
    let (begin, end) = (format!("<!-- {}: begin -->", piece.name), format!("<!-- {}: end -->", piece.name));
    let (before, rest) = page.split_once(&begin).with_context(|| format!("the page has no line {begin}"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("the page has no line {end} after its begin"))?;
    Ok(format!("{before}{begin}\n{}\n{end}{after}", piece.text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Cost\nOurs.\n<!-- bench cost: begin -->\nold\n<!-- bench cost: end -->\nOurs, too.\n";

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let page = put(PAGE, &Piece { name: "bench cost", text: "new\n".into() }).expect("the markers are there");
        assert_eq!(page, PAGE.replace("old", "new"));
        assert_eq!(put(&page, &Piece { name: "bench cost", text: "old\n".into() }).expect("they still are"), PAGE);
    }

    #[test]
    fn a_page_without_the_markers_is_refused() {
        let failed =
            put(PAGE, &Piece { name: "bench memory", text: String::new() }).expect_err("there is no such piece");
        assert_eq!(failed.to_string(), "the page has no line <!-- bench memory: begin -->");
    }

    #[test]
    fn a_table_has_a_cell_for_every_heading() {
        let mut table = Table::of(&["who"], ["ns", "us"]);
        table.row(vec!["bare".into(), "71".into(), "5|5".into()]);
        table.row(vec!["hud".into()]);
        assert_eq!(table.text(), "| who | ns | us |\n|---|--:|--:|\n| bare | 71 | 5\\|5 |\n| hud |  |  |\n");
    }
}
