//! Columns of text, aligned as kubectl aligns them.

/// `rows` with every column as wide as its widest cell, two spaces between, each line indented by `indent`. The last column is not padded.
#[must_use]
pub fn aligned(indent: usize, rows: &[Vec<String>]) -> String {
    painted(indent, rows, |_, _, cell| cell.to_owned())
}

/// The same, each cell as `paint` (of row, column and cell) makes it: what it adds, such as a colour, takes no room.
#[must_use]
pub fn painted(indent: usize, rows: &[Vec<String>], paint: impl Fn(usize, usize, &str) -> String) -> String {
    let width = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            match widths.get_mut(column) {
                Some(widest) => *widest = (*widest).max(width(cell)),
                None => widths.push(width(cell)),
            }
        }
    }
    let mut text = String::new();
    for (position, row) in rows.iter().enumerate() {
        let mut line = " ".repeat(indent);
        for (column, (cell, widest)) in row.iter().zip(&widths).enumerate() {
            line.push_str(&paint(position, column, cell));
            line.push_str(&" ".repeat(widest - width(cell) + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A row of cells.
#[must_use]
pub fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_spaces() {
        let rows = [row(["A", "BB", ""]), row(["äöü", "1", "x"])];
        assert_eq!(aligned(1, &rows), " A    BB\n äöü  1   x\n");
    }
}
