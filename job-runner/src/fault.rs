//! Why an attempt failed: one type in which every module's error ends, with all that the report needs.

use std::{borrow::Cow, cmp::Reverse, fmt};

use mapa_refresh_crds::report::{FaultClass, RunError, clean, code};
use secrecy::{ExposeSecret, SecretString};

/// Longest message kept, in bytes; the report shortens it further.
const MAX_MESSAGE: usize = 2_000;

/// Why an attempt failed, and whether trying again may help.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message} ({code})")]
pub struct Fault {
    /// Whether it may pass by itself.
    pub class: FaultClass,
    /// One of [`code`], a SQLSTATE, an ORA number, or the first word of a Redis error.
    pub code: Cow<'static, str>,
    /// What happened and what to do about it. One line, no secrets.
    pub message: String,
    /// Whether this run should try again. False for what a retry within minutes can't change, although it may pass.
    pub retry: bool,
}

impl Fault {
    /// A fault that may pass by itself: this run tries again.
    pub fn transient(code: impl Into<Cow<'static, str>>, message: impl fmt::Display) -> Self {
        Self::new(FaultClass::Transient, code, message)
    }

    /// A fault that somebody has to mend: no retry.
    pub fn permanent(code: impl Into<Cow<'static, str>>, message: impl fmt::Display) -> Self {
        Self::new(FaultClass::Permanent, code, message)
    }

    /// A fault of `class`. Control characters in the message become spaces: it may quote a server, and reaches terminals.
    pub fn new(class: FaultClass, code: impl Into<Cow<'static, str>>, message: impl fmt::Display) -> Self {
        let mut message = message.to_string();
        clean(&mut message, MAX_MESSAGE);
        Self {
            class,
            code: code.into(),
            message,
            retry: class == FaultClass::Transient,
        }
    }

    /// The run was ended from outside.
    #[must_use]
    pub fn terminated() -> Self {
        Self::transient(
            code::TERMINATED,
            "ended by SIGTERM: the deadline, the next run, or the drain of the node; what was published stays",
        )
        .without_retry()
    }

    /// The same fault, but this run doesn't try again.
    #[must_use]
    pub fn without_retry(mut self) -> Self {
        self.retry = false;
        self
    }

    /// The same fault with `note` at the end of its message.
    #[must_use]
    pub fn noting(mut self, note: impl fmt::Display) -> Self {
        self.message = format!("{}; {note}", self.message);
        self
    }

    /// Replaces every password in the message: a server's own words are quoted in it, and may repeat what it was sent.
    #[must_use]
    pub fn without(mut self, passwords: &[SecretString]) -> Self {
        // The message is clean of control characters: what is looked for has to be, too.
        let mut passwords: Vec<String> = passwords
            .iter()
            .map(|password| {
                let mut password = password.expose_secret().to_owned();
                clean(&mut password, MAX_MESSAGE);
                password
            })
            // One to three characters are found in any text: replacing them would tell more than it hides.
            .filter(|password| password.len() >= 4)
            .collect();
        // Of a password that begins like another one, the rest would stay.
        passwords.sort_by_key(|password| Reverse(password.len()));
        for password in passwords {
            if self.message.contains(&password) {
                self.message = self.message.replace(&password, "***");
            }
        }
        self
    }

    /// As the report carries it.
    #[must_use]
    pub fn into_error(self) -> RunError {
        let Self {
            class,
            code,
            message,
            retry: _,
        } = self;
        RunError {
            class,
            code: code.into_owned(),
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_words_lose_control_characters_and_passwords() {
        let fault = Fault::transient("08006", "said \u{1b}[31mpassword=c4n4ry!\u{1b}[0m\nand left")
            .without(&["c4n4ry!".to_owned().into(), String::new().into()]);
        assert_eq!(fault.message, "said  [31mpassword=*** [0m and left");
    }

    #[test]
    fn a_password_that_holds_another_one_is_replaced_as_a_whole() {
        let passwords = ["c4n4", "c4n4ry-new", "two\nlines"].map(|password| password.to_owned().into());
        let fault = Fault::transient("08006", "tried c4n4ry-new, c4n4 and two\nlines").without(&passwords);
        assert_eq!(fault.message, "tried ***, *** and ***");
    }
}
