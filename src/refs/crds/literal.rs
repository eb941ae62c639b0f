//! Mappings as data: the part of Python's syntax that they use.
//!
//! A mapping assigns a literal to `header`, one to `selector`, perhaps one to
//! `comment`. Literals are strings, numbers, True, False, None, tuples, lists,
//! dictionaries, and selectors: a name with one dictionary (or list of pairs) in
//! parentheses. Everything else is refused; nothing is ever run. Work and memory
//! grow with the size of the file, which is bounded, and nesting is bounded too.

use std::collections::HashMap;

use super::lexer::{At, Lexer, Token, Wrong};

/// Brackets within brackets, at most. The client's own mappings have six.
const MAX_DEPTH: usize = 40;

/// Selectors that mappings may use.
const SELECTORS: [&str; 7] =
    ["Match", "UseAfter", "ClosestTime", "VersionAfter", "SelectVersion", "GeometricallyNearest", "Bracket"];

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Text(String),
    Number(f64),
    Bool(bool),
    None,
    /// A tuple or a list.
    Row(Vec<Literal>),
    Dict(Dict),
    /// A selector and its entries.
    Call(String, Dict),
}

/// Keys and values, in order.
pub(super) type Dict = Vec<(Literal, Literal)>;

impl Literal {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Literal::Text(t) => Some(t),
            _ => None,
        }
    }

    /// As Python's `str()` writes it where a plain value stands.
    pub(super) fn plain(&self) -> Option<String> {
        Some(match self {
            Literal::Text(t) => t.clone(),
            Literal::Number(n) => super::condition::number(*n),
            Literal::Bool(b) => if *b { "True" } else { "False" }.to_owned(),
            Literal::None => "None".to_owned(),
            _ => return None,
        })
    }
}

/// The value of `key` in a dictionary.
pub(super) fn entry<'a>(dict: &'a Dict, key: &str) -> Option<&'a Literal> {
    dict.iter().find(|(k, _)| k.text() == Some(key)).map(|(_, v)| v)
}

/// What a mapping assigns.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) header: Dict,
    pub(super) selector: Literal,
    /// Keys that stand twice, as sentences: the last one counts, as in Python.
    pub(super) doubles: Vec<String>,
}

/// Reads a mapping.
pub(super) fn source(text: &str) -> Result<Source, Wrong> {
    let mut parser = Parser::new(text)?;
    let (mut header, mut selector) = (None, None);
    loop {
        let (token, at) = parser.take()?;
        let name = match token {
            Token::End => break,
            // A text by itself is a comment.
            Token::Text(_) => continue,
            Token::Name(name) if matches!(name.as_str(), "header" | "selector" | "comment") => name,
            other => {
                let message = format!(
                    "{other} cannot stand here: a mapping holds 'header = ...', 'selector = ...' and perhaps \
                     'comment = ...'; nothing in it is run"
                );
                return Err(Wrong::new(at, message));
            }
        };
        parser.sign('=')?;
        let at = parser.at;
        match (name.as_str(), parser.literal(0)?) {
            ("header", Literal::Dict(dict)) => header = Some(dict),
            ("header", _) => return Err(Wrong::new(at, "the header must be a dictionary")),
            ("selector", value @ (Literal::Dict(_) | Literal::Call(..))) => selector = Some(value),
            ("selector", _) => return Err(Wrong::new(at, "the selector must be a dictionary or a selector")),
            (_, Literal::Text(_)) => {}
            _ => return Err(Wrong::new(at, "the comment must be a string")),
        }
    }
    let missing = |what: &str| Wrong::new(parser.at, format!("the file has no '{what} = ...'"));
    Ok(Source {
        header: header.ok_or_else(|| missing("header"))?,
        selector: selector.ok_or_else(|| missing("selector"))?,
        doubles: parser.doubles,
    })
}

/// Reads one literal, the whole of a text (`server_config`).
pub(super) fn alone(text: &str) -> Result<Literal, Wrong> {
    let mut parser = Parser::new(text)?;
    let literal = parser.literal(0)?;
    match parser.take()? {
        (Token::End, _) => Ok(literal),
        (other, at) => Err(Wrong::new(at, format!("{other} follows what should be all"))),
    }
}

/// One word ahead.
struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token,
    at: At,
    doubles: Vec<String>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Parser<'a>, Wrong> {
        let mut lexer = Lexer::new(text)?;
        let (token, at) = lexer.word()?;
        Ok(Parser { lexer, token, at, doubles: Vec::new() })
    }

    fn take(&mut self) -> Result<(Token, At), Wrong> {
        let (token, at) = self.lexer.word()?;
        Ok((std::mem::replace(&mut self.token, token), std::mem::replace(&mut self.at, at)))
    }

    fn sign(&mut self, sign: char) -> Result<(), Wrong> {
        match self.take()? {
            (Token::Sign(c), _) if c == sign => Ok(()),
            (other, at) => Err(Wrong::new(at, format!("{other} stands where '{sign}' should"))),
        }
    }

    /// Takes `sign` if it is next.
    fn took(&mut self, sign: char) -> Result<bool, Wrong> {
        let next = self.token == Token::Sign(sign);
        if next {
            self.take()?;
        }
        Ok(next)
    }

    fn literal(&mut self, depth: usize) -> Result<Literal, Wrong> {
        if depth > MAX_DEPTH {
            return Err(Wrong::new(self.at, format!("more than {MAX_DEPTH} brackets within brackets")));
        }
        let (token, at) = self.take()?;
        match token {
            Token::Text(mut text) => {
                // Strings side by side are one.
                while let Token::Text(more) = &self.token {
                    text.push_str(more);
                    self.take()?;
                }
                Ok(Literal::Text(text))
            }
            Token::Number(n) => Ok(Literal::Number(n)),
            Token::Sign('-') => match self.take()? {
                (Token::Number(n), _) => Ok(Literal::Number(-n)),
                (other, at) => Err(Wrong::new(at, format!("{other} cannot be negative"))),
            },
            Token::Sign('{') => Ok(Literal::Dict(self.dict(depth + 1)?)),
            Token::Sign('[') => Ok(Literal::Row(self.row(']', depth + 1)?.0)),
            Token::Sign('(') => match self.row(')', depth + 1)? {
                // One value in parentheses, without a comma, is that value.
                (mut row, false) if row.len() == 1 => Ok(row.remove(0)),
                (row, _) => Ok(Literal::Row(row)),
            },
            Token::Name(name) => match name.as_str() {
                "True" => Ok(Literal::Bool(true)),
                "False" => Ok(Literal::Bool(false)),
                "None" => Ok(Literal::None),
                selector if SELECTORS.contains(&selector) => self.call(name, depth),
                _ => {
                    let (name, all) = (Token::Name(name), SELECTORS.join(", "));
                    let message = format!("{name} is not a selector ({all}): nothing in a mapping is run");
                    Err(Wrong::new(at, message))
                }
            },
            other => Err(Wrong::new(at, format!("{other} stands where a value should"))),
        }
    }

    /// The rest of a tuple or list, and whether a comma stood in it.
    fn row(&mut self, close: char, depth: usize) -> Result<(Vec<Literal>, bool), Wrong> {
        let (mut row, mut comma) = (Vec::new(), false);
        while !self.took(close)? {
            row.push(self.literal(depth)?);
            if !self.took(',')? {
                self.sign(close)?;
                break;
            }
            comma = true;
        }
        Ok((row, comma))
    }

    fn dict(&mut self, depth: usize) -> Result<Dict, Wrong> {
        let mut pairs = Vec::new();
        while !self.took('}')? {
            let at = self.at;
            let key = self.literal(depth)?;
            self.sign(':')?;
            pairs.push((key, self.literal(depth)?, at));
            if !self.took(',')? {
                self.sign('}')?;
                break;
            }
        }
        self.once(pairs)
    }

    /// The dictionary, or list of pairs, of a selector.
    fn call(&mut self, name: String, depth: usize) -> Result<Literal, Wrong> {
        self.sign('(')?;
        let at = self.at;
        let dict = match self.literal(depth + 1)? {
            Literal::Dict(dict) => dict,
            Literal::Row(pairs) => {
                let pairs = pairs.into_iter().map(|pair| match pair {
                    Literal::Row(mut pair) if pair.len() == 2 => {
                        let value = pair.pop().unwrap_or(Literal::None);
                        Ok((pair.pop().unwrap_or(Literal::None), value, at))
                    }
                    _ => Err(Wrong::new(at, format!("{name} takes a dictionary or a list of pairs"))),
                });
                self.once(pairs.collect::<Result<_, _>>()?)?
            }
            _ => return Err(Wrong::new(at, format!("{name} takes a dictionary"))),
        };
        self.took(',')?;
        self.sign(')')?;
        Ok(Literal::Call(name, dict))
    }

    /// Pairs with each key once: the last value, at the place of the first.
    fn once(&mut self, pairs: Vec<(Literal, Literal, At)>) -> Result<Dict, Wrong> {
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut dict: Dict = Vec::with_capacity(pairs.len());
        for (key, value, at) in pairs {
            if matches!(key, Literal::Dict(_) | Literal::Call(..)) {
                return Err(Wrong::new(at, "a dictionary or selector cannot be a key"));
            }
            match places.entry(format!("{key:?}")) {
                std::collections::hash_map::Entry::Occupied(place) => {
                    let sentence = Wrong::new(at, "this key stands here a second time: the last one counts");
                    self.doubles.push(sentence.to_string());
                    dict[*place.get()].1 = value;
                }
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(dict.len());
                    dict.push((key, value));
                }
            }
        }
        Ok(dict)
    }
}
