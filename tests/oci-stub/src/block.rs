//! PL/SQL blocks: one call of a procedure or function, with named arguments, as the runner sends them.

use std::collections::HashMap;

use sqlparser::tokenizer::Token;

use crate::{
    protocol::Ora,
    tokens::{binds, tokens},
    value::Value,
};

/// A block that the stub knows.
pub(crate) enum Block {
    /// `DBMS_MVIEW.REFRESH`.
    Refresh {
        list: Argument,
        atomic: bool,
        complete: bool,
    },
    /// `DBMS_LOCK.REQUEST`, exclusive, without waiting, beyond the transaction.
    Request { result: Argument, id: Argument },
    /// `DBMS_LOCK.RELEASE`.
    Release { result: Argument, id: Argument },
    /// A procedure of a user, without arguments.
    Call { owner: String, name: String },
}

/// An argument: bound, or written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    /// Number of the bind, from 0.
    Bound(usize),
    Text(String),
    Word(String),
}

impl Argument {
    /// Its value, as text.
    pub(crate) fn of(&self, binds: &[Value]) -> Result<String, Ora> {
        match self {
            Self::Text(text) | Self::Word(text) => Ok(text.clone()),
            Self::Bound(at) => match binds.get(*at) {
                Some(Value::Text(bytes)) => Ok(String::from_utf8_lossy(bytes).into_owned()),
                Some(Value::Number(number)) => Ok(number.clone()),
                _ => Err(Ora::new(1008, "not all variables bound")),
            },
        }
    }

    pub(crate) fn set(&self, binds: &mut [Value], value: Value) -> Result<(), Ora> {
        let target = match self {
            Self::Bound(at) => binds.get_mut(*at),
            _ => None,
        };
        *target.ok_or_else(|| Ora::new(1008, "not all variables bound"))? = value;
        Ok(())
    }

    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own.eq_ignore_ascii_case(word))
    }
}

/// Reads `BEGIN [:n :=] PACKAGE.NAME(name => value, …); END;` and `BEGIN OWNER.PROCEDURE; END;`.
pub(crate) fn parse(sql: &str) -> Result<Block, Ora> {
    let unknown = || Ora::new(6550, &format!("the OCI stub does not know this block: {sql}"));
    let tokens = tokens(sql).map_err(|_| unknown())?;
    let names = binds(&tokens);
    let bound = |name: String| Argument::Bound(names.iter().position(|own| *own == name).unwrap_or(usize::MAX));
    let mut tokens = tokens.into_iter().peekable();
    let word = |token: Option<Token>| match token {
        Some(Token::Word(word)) => Some(word.value.to_ascii_uppercase()),
        _ => None,
    };
    if word(tokens.next()).as_deref() != Some("BEGIN") {
        return Err(unknown());
    }
    let mut result = None;
    if let Some(Token::Placeholder(name)) = tokens.peek().cloned() {
        tokens.next();
        result = Some(bound(name));
        if tokens.next() != Some(Token::Assignment) {
            return Err(unknown());
        }
    }
    let package = word(tokens.next()).ok_or_else(unknown)?;
    if tokens.next() != Some(Token::Period) {
        return Err(unknown());
    }
    let name = word(tokens.next()).ok_or_else(unknown)?;
    if result.is_none() && tokens.peek() == Some(&Token::SemiColon) {
        return if is_end(&tokens.collect::<Vec<_>>()) {
            Ok(Block::Call { owner: package, name })
        } else {
            Err(unknown())
        };
    }
    if tokens.next() != Some(Token::LParen) {
        return Err(unknown());
    }
    let mut arguments = HashMap::new();
    loop {
        let key = word(tokens.next()).ok_or_else(unknown)?;
        if tokens.next() != Some(Token::RArrow) {
            return Err(unknown());
        }
        let value = match tokens.next() {
            Some(Token::Placeholder(name)) => bound(name),
            Some(Token::SingleQuotedString(text)) => Argument::Text(text),
            Some(Token::Word(word)) => Argument::Word(word.value),
            Some(Token::Number(number, _)) => Argument::Text(number.to_string()),
            _ => return Err(unknown()),
        };
        arguments.insert(key, value);
        match tokens.next() {
            Some(Token::Comma) => {}
            Some(Token::RParen) => break,
            _ => return Err(unknown()),
        }
    }
    if !is_end(&tokens.collect::<Vec<_>>()) {
        return Err(unknown());
    }
    let take = |key: &str| arguments.get(key).cloned();
    match (package.as_str(), name.as_str()) {
        ("DBMS_MVIEW", "REFRESH") => Ok(Block::Refresh {
            list: take("LIST").ok_or_else(unknown)?,
            // As Oracle's own defaults: atomic, and the view's own method.
            atomic: take("ATOMIC_REFRESH").is_none_or(|atomic| atomic.is("TRUE")),
            complete: take("METHOD") == Some(Argument::Text("C".to_owned())),
        }),
        ("DBMS_LOCK", "REQUEST") => {
            let exclusive = take("LOCKMODE") == Some(Argument::Text("6".to_owned()));
            let at_once = take("TIMEOUT") == Some(Argument::Text("0".to_owned()));
            let beyond = take("RELEASE_ON_COMMIT").is_some_and(|argument| argument.is("FALSE"));
            if !(exclusive && at_once && beyond) {
                return Err(unknown());
            }
            Ok(Block::Request {
                result: result.ok_or_else(unknown)?,
                id: take("ID").ok_or_else(unknown)?,
            })
        }
        ("DBMS_LOCK", "RELEASE") => Ok(Block::Release {
            result: result.ok_or_else(unknown)?,
            id: take("ID").ok_or_else(unknown)?,
        }),
        _ => Err(unknown()),
    }
}

/// `; END;`
fn is_end(rest: &[Token]) -> bool {
    matches!(rest, [Token::SemiColon, Token::Word(end), Token::SemiColon] if end.value.eq_ignore_ascii_case("END"))
}
