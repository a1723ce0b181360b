//! A statement's tokens, without blanks, with binds in one piece.

use sqlparser::{
    dialect::OracleDialect,
    tokenizer::{Token, Tokenizer, TokenizerError},
};

/// The tokens of `sql`; a bind (`:1`, `:name`) is a placeholder by its name in upper case.
pub(crate) fn tokens(sql: &str) -> Result<Vec<Token>, TokenizerError> {
    let tokens = Tokenizer::new(&OracleDialect {}, sql).tokenize()?;
    let mut tokens = tokens
        .into_iter()
        .filter(|token| !matches!(token, Token::Whitespace(_)))
        .peekable();
    let mut found = Vec::new();
    while let Some(token) = tokens.next() {
        let name = match (&token, tokens.peek()) {
            (Token::Colon, Some(Token::Number(number, _))) => Some(number.to_string()),
            (Token::Colon, Some(Token::Word(word))) => Some(word.value.to_ascii_uppercase()),
            _ => None,
        };
        found.push(match name {
            Some(name) => {
                tokens.next();
                Token::Placeholder(name)
            }
            None => token,
        });
    }
    Ok(found)
}

/// The names of the binds, each once, in their order.
pub(crate) fn binds(tokens: &[Token]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for token in tokens {
        if let Token::Placeholder(name) = token
            && !names.contains(name)
        {
            names.push(name.clone());
        }
    }
    names
}
