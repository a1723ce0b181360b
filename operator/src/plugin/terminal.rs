//! What reaches the terminal: harmless, coloured where it is a terminal, and readable.

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice, adapter::strip_str};
use anstyle::{AnsiColor, Style};
use k8s_openapi::jiff::Timestamp;
use mapa_refresh_crds::report::clean;

use super::error::PluginError;

/// Longest text of the API that is shown, in bytes: no message of a status is longer.
const MAX_TEXT: usize = 2_048;

/// Whether something is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// It is.
    Good,
    /// It is not.
    Bad,
    /// Nobody knows, or soon it will not be.
    Doubtful,
    /// Neither.
    Plain,
}

impl Mood {
    /// `text` in this mood's colour; whoever prints it takes the colour away where it is of no use.
    #[must_use]
    pub fn paint(self, text: &str) -> String {
        let colour = match self {
            Self::Good => AnsiColor::Green,
            Self::Bad => AnsiColor::Red,
            Self::Doubtful => AnsiColor::Yellow,
            Self::Plain => return text.to_owned(),
        };
        let style = Style::new().fg_color(Some(colour.into()));
        format!("{style}{text}{style:#}")
    }
}

/// Text of the API on one line that cannot do anything to a terminal: no control characters, no reordering.
#[must_use]
pub fn harmless(text: &str) -> String {
    let mut text = text.to_owned();
    clean(&mut text, MAX_TEXT);
    text
}

/// The same, at most `max` bytes long.
#[must_use]
pub fn shortened(text: &str, max: usize) -> String {
    let mut text = text.to_owned();
    clean(&mut text, max);
    text
}

/// Prints to stdout. Colours go through only to a terminal, and not under `NO_COLOR`.
///
/// # Errors
/// Nobody can read it, other than because somebody has read enough (`| head`).
pub fn print(text: &str) -> Result<(), PluginError> {
    write(anstream::stdout().lock(), text)
}

/// Empties the terminal.
///
/// # Errors
/// As those of [`print`].
pub fn clear() -> Result<(), PluginError> {
    write(io::stdout().lock(), "\x1b[2J")
}

/// Draws `text` over what the terminal shows. Where the cursor goes is no colour: it goes there under `NO_COLOR` as well.
///
/// # Errors
/// As those of [`print`].
pub fn draw(text: &str) -> Result<(), PluginError> {
    let stdout = io::stdout();
    let drawn = if AutoStream::choice(&stdout) == ColorChoice::Never {
        redrawn(&strip_str(text).to_string())
    } else {
        redrawn(text)
    };
    write(stdout.lock(), &drawn)
}

fn write(mut to: impl Write, text: &str) -> Result<(), PluginError> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(PluginError::Print(error)),
        _ => Ok(()),
    }
}

/// Prints to stderr, where a lost word is no fault of the answer.
pub fn remark(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Says why there is no answer.
pub fn complain(error: &PluginError) {
    let text: Vec<String> = error.to_string().lines().map(harmless).collect();
    remark(&format!("{}: {}", Mood::Bad.paint("error"), text.join("\n")));
}

/// Whether stdout is a terminal, and one whose cursor can be moved.
#[must_use]
pub fn is_terminal() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn redrawn(text: &str) -> String {
    // Home, each line to its end, then everything below: nothing flickers, and nothing of the last drawing stays.
    let lines: String = text.lines().map(|line| format!("{line}\x1b[K\n")).collect();
    format!("\x1b[H{lines}\x1b[J")
}

/// A duration as a person reads it: two units at most.
#[must_use]
pub fn duration(seconds: i64) -> String {
    let (sign, seconds) = if seconds < 0 {
        ("-", seconds.unsigned_abs())
    } else {
        ("", seconds.unsigned_abs())
    };
    let two = |large: u64, unit: char, small: u64, below: char| {
        if small == 0 {
            format!("{sign}{large}{unit}")
        } else {
            format!("{sign}{large}{unit}{small}{below}")
        }
    };
    match seconds {
        0..60 => format!("{sign}{seconds}s"),
        60..3_600 => two(seconds / 60, 'm', seconds % 60, 's'),
        3_600..86_400 => two(seconds / 3_600, 'h', seconds % 3_600 / 60, 'm'),
        _ => two(seconds / 86_400, 'd', seconds % 86_400 / 3_600, 'h'),
    }
}

/// How long ago `moment` was.
#[must_use]
pub fn ago(moment: Option<Timestamp>, now: Timestamp) -> String {
    moment.map_or_else(
        || "-".to_owned(),
        |moment| duration(now.as_second() - moment.as_second()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_the_api_cannot_reach_the_terminal_as_a_command() {
        let hostile = "a\x1b[2Jb\u{202e}c\r\nd\x07\u{9b}31m";
        let shown = harmless(hostile);
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        assert!(!shown.contains('\u{202e}'));
    }

    #[test]
    fn a_duration_has_two_units_at_most() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (754, "12m34s"),
            (3_600, "1h"),
            (7_380, "2h3m"),
            (90_000, "1d1h"),
            (-5, "-5s"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
