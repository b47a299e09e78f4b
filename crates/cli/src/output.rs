//! Printing: aligned columns, JSON, readable sizes and ages.

use std::time::{Duration, SystemTime};

use pagemate::inspect::{ItemBytes, ItemType};
use serde_json::{json, Value};

use crate::{stdio, Outcome};

/// Prints all of `text`. A reader that has gone (`pagemate ls | head -1`) is not a failure.
pub(crate) fn print(text: &str) -> Outcome {
    stdio::put(text.as_bytes())
}

/// Prints a JSON value and a newline.
pub(crate) fn print_json(value: &Value) -> Outcome {
    print(&escaped(&format!("{value:#}\n")))
}

/// Returns a JSON value as one line.
pub(crate) fn json_line(value: &Value) -> String {
    escaped(&format!("{value}\n"))
}

/// Escapes the control characters that serde_json does not: those beyond ASCII, which control a
/// terminal as well. They occur only in strings.
fn escaped(json: &str) -> String {
    let escape =
        |c: char| if c > '\u{7e}' && c.is_control() { format!("\\u{:04x}", c as u32) } else { c.to_string() };
    json.chars().map(escape).collect()
}

/// Formats rows under a head, each column as wide as its widest cell. Columns whose head begins
/// with '>' are flush right.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].trim_start_matches('>').len()]).max().unwrap_or(0)
    });
    let line = |cells: [&str; N]| {
        let mut line = String::new();
        for (column, cell) in cells.into_iter().enumerate() {
            let gap = " ".repeat(width[column].saturating_sub(cell.chars().count()));
            let flush_right = head[column].starts_with('>');
            line += &if flush_right { format!("{gap}{cell}  ") } else { format!("{cell}{gap}  ") };
        }
        format!("{}\n", line.trim_end())
    };
    let mut text = line(head.map(|cell| cell.trim_start_matches('>')));
    text.extend(rows.iter().map(|row| line(std::array::from_fn(|column| row[column].as_str()))));
    text
}

/// Formats a size: `512 B`, `4.0 KiB`, `1.5 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let exponent = (bytes.max(1).ilog2() / 10).min(units.len() as u32);
    match exponent {
        0 => format!("{bytes} B"),
        _ => format!("{:.1} {}", bytes as f64 / 1024f64.powi(exponent as i32), units[exponent as usize - 1]),
    }
}

/// Formats the time since a moment: `3s`, `5m`, `2h`, `9d`. A moment in the future is `0s` ago.
pub(crate) fn age(since: SystemTime) -> String {
    match since.elapsed().unwrap_or(Duration::ZERO).as_secs() {
        seconds @ 0..=99 => format!("{seconds}s"),
        seconds @ 100..=5_999 => format!("{}m", seconds / 60),
        seconds @ 6_000..=172_799 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// Returns the seconds since 1970.
pub(crate) fn unix(time: SystemTime) -> Value {
    json!(time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()))
}

/// Escapes the control characters in text from shared memory, because they could control a
/// terminal.
pub(crate) fn shown(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// Formats a failure as one line. Names chosen by other users must not control a terminal here
/// either.
pub(crate) fn one_line(text: &str) -> String {
    shown(&text.lines().map(str::trim).collect::<Vec<_>>().join(" "))
}

/// Returns an item as JSON, with every digit: numbers and booleans as such, everything else as
/// text.
pub(crate) fn typed(item: &ItemBytes) -> pagemate::Result<Value> {
    let text = item.render_whole()?;
    Ok(match &item.of {
        ItemType::Message(_) => message(text),
        _ => Value::from(text),
    })
}

/// Returns the text of a message as JSON: numbers and booleans as such, everything else as text.
pub(crate) fn message(text: String) -> Value {
    serde_json::from_str(&text).ok().filter(is_plain).unwrap_or_else(|| Value::from(text))
}

fn is_plain(value: &Value) -> bool {
    value.is_number() || value.is_boolean()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages() {
        let sizes = [0, 1023, 1024, 1536, 1 << 30, u64::MAX].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 GiB", "16777216.0 TiB"]);
        let ago = |seconds| age(SystemTime::now() - Duration::from_secs(seconds));
        assert_eq!([5, 300, 7_200, 900_000].map(ago), ["5s", "5m", "2h", "10d"]);
        assert_eq!(age(SystemTime::now() + Duration::from_secs(60)), "0s");
    }

    #[test]
    fn columns() {
        let rows = [["a", "1"], ["long", "1000"]].map(|row| row.map(str::to_string));
        assert_eq!(table(["NAME", ">N"], &rows), "NAME     N\na        1\nlong  1000\n");
    }

    #[test]
    fn no_escape_sequences() {
        assert_eq!(shown("a\u{1b}[2Jü\n"), "a\\u{1b}[2Jü\\n");
    }
}
