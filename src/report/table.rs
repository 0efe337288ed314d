//! Metrics in aligned columns of text.

/// The table: headers, a rule, the rows, two spaces between columns; a line ends without spaces, and all with a line feed.
///
/// A column whose every cell begins like a number (a digit, a sign, or a point and a digit) stands on the right.
///
/// # Panics
/// If a row has another number of cells than there are headers.
pub fn table(headers: &[&str], rows: &[Vec<String>]) -> String {
    assert!(rows.iter().all(|row| row.len() == headers.len()), "table: a row has not {} cells", headers.len());
    let widths: Vec<usize> = (0..headers.len())
        .map(|j| rows.iter().map(|row| row[j].as_str()).chain([headers[j]]).map(columns).max().unwrap_or(0))
        .collect();
    let on_the_right: Vec<bool> = (0..headers.len()).map(|j| rows.iter().all(|row| is_number(&row[j]))).collect();
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().enumerate().map(|(j, cell)| {
            let blank = " ".repeat(widths[j] - columns(cell));
            if on_the_right[j] { blank + cell } else { cell.to_string() + &blank }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string() + "\n"
    };
    let rules: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
    let head = line(headers.to_vec()) + &line(rules.iter().map(String::as_str).collect());
    rows.iter().fold(head, |text, row| text + &line(row.iter().map(String::as_str).collect()))
}

/// The columns of a terminal that `cell` takes, of letters without combining marks.
fn columns(cell: &str) -> usize {
    cell.chars().count()
}

fn is_number(cell: &str) -> bool {
    cell.trim_start_matches(['-', '−', '+', '.']).starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_puts_numbers_on_the_right_and_words_on_the_left() {
        let row = |cells: [&str; 3]| cells.map(String::from).to_vec();
        let rows = [row(["1-100", "R²", "0.5"]), row(["901-1000", "R² (EMA)", "−12.25"])];
        let expected = [
            "       t  metric     value\n",
            "--------  --------  ------\n",
            "   1-100  R²           0.5\n",
            "901-1000  R² (EMA)  −12.25\n",
        ];
        assert_eq!(table(&["t", "metric", "value"], &rows), expected.concat());
    }

    #[test]
    fn table_of_words_ends_its_lines_without_spaces() {
        let rows = [vec!["avx2".to_string(), "yes".to_string()], vec!["neon".to_string(), "-".to_string()]];
        assert_eq!(table(&["set", "here"], &rows), "set   here\n----  ----\navx2  yes\nneon  -\n");
    }
}
