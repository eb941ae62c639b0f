//! Words of a mapping: names, strings, numbers and signs, with where they stand.

use std::fmt;

/// Bytes of a mapping, at most. The largest known has a few million.
pub(super) const MAX_BYTES: usize = 8 << 20;

/// Bytes of a line, at most: mappings have one entry a line.
const MAX_LINE: usize = 64 << 10;

/// Where something stands, from 1; columns count bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    line: usize,
    column: usize,
}

/// What is wrong in a text, and where.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wrong {
    at: At,
    message: String,
}

impl Wrong {
    pub(super) fn new(at: At, message: impl Into<String>) -> Wrong {
        Wrong { at, message: message.into() }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.at.line, self.at.column, self.message)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Name(String),
    Text(String),
    Number(f64),
    Sign(char),
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Name(name) => write!(f, "'{}'", short(name)),
            Token::Text(_) => write!(f, "a string"),
            Token::Number(n) => write!(f, "the number {n}"),
            Token::Sign(c) => write!(f, "'{c}'"),
            Token::End => write!(f, "the end of the file"),
        }
    }
}

fn short(name: &str) -> String {
    match name.char_indices().nth(40) {
        Some((at, _)) => format!("{}...", &name[..at]),
        None => name.to_owned(),
    }
}

/// Reads a text word by word.
pub(super) struct Lexer<'a> {
    text: &'a str,
    next: usize,
    line: usize,
    /// Where the line begins.
    start: usize,
}

impl<'a> Lexer<'a> {
    /// Refuses what is too long to be a mapping.
    pub(super) fn new(text: &'a str) -> Result<Lexer<'a>, Wrong> {
        if text.len() > MAX_BYTES {
            let at = At { line: 1, column: 1 };
            return Err(Wrong::new(at, format!("the file has more than {} MiB", MAX_BYTES >> 20)));
        }
        let long = text.split('\n').position(|line| line.len() > MAX_LINE);
        if let Some(line) = long {
            let at = At { line: line + 1, column: MAX_LINE + 1 };
            let message =
                format!("the line has more than {} KiB: a mapping has one entry a line", MAX_LINE >> 10);
            return Err(Wrong::new(at, message));
        }
        Ok(Lexer { text, next: 0, line: 1, start: 0 })
    }

    /// The next word and where it stands.
    pub(super) fn word(&mut self) -> Result<(Token, At), Wrong> {
        self.blank();
        let at = self.at();
        let rest = &self.text[self.next..];
        let Some(c) = rest.chars().next() else { return Ok((Token::End, at)) };
        let raw = rest.starts_with("r'") || rest.starts_with("r\"");
        let token = match c {
            '\'' | '"' => Token::Text(self.string(false)?),
            'r' if raw => {
                self.next += 1;
                Token::Text(self.string(true)?)
            }
            c if c.is_ascii_digit() || (c == '.' && rest[1..].starts_with(|d: char| d.is_ascii_digit())) => {
                self.number(at)?
            }
            c if c.is_alphabetic() || c == '_' => {
                let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                self.next += end;
                Token::Name(rest[..end].to_owned())
            }
            c => {
                self.next += c.len_utf8();
                Token::Sign(c)
            }
        };
        Ok((token, at))
    }

    fn at(&self) -> At {
        At { line: self.line, column: self.next - self.start + 1 }
    }

    /// Passes white space, comments and lines that go on (`\`).
    fn blank(&mut self) {
        while let Some(c) = self.text[self.next..].chars().next() {
            match c {
                '#' => {
                    let rest = &self.text[self.next..];
                    self.next += rest.find('\n').unwrap_or(rest.len());
                }
                '\n' => self.newline(),
                '\\' if self.text[self.next + 1..].starts_with(['\n', '\r']) => self.next += 1,
                c if c.is_whitespace() || c == '\u{feff}' => self.next += c.len_utf8(),
                _ => return,
            }
        }
    }

    fn newline(&mut self) {
        self.next += 1;
        self.line += 1;
        self.start = self.next;
    }

    /// The string that begins here, its quotes taken off.
    fn string(&mut self, raw: bool) -> Result<String, Wrong> {
        let at = self.at();
        let rest = &self.text[self.next..];
        let quote =
            if rest.starts_with("\"\"\"") || rest.starts_with("'''") { &rest[..3] } else { &rest[..1] };
        self.next += quote.len();
        let mut out = String::new();
        loop {
            let rest = &self.text[self.next..];
            if rest.starts_with(quote) {
                self.next += quote.len();
                return Ok(out);
            }
            match rest.chars().next() {
                None => return Err(Wrong::new(at, "the string has no end")),
                Some('\n') if quote.len() == 1 => {
                    return Err(Wrong::new(at, "the string has no end on its line"));
                }
                Some('\n') => {
                    out.push('\n');
                    self.newline();
                }
                Some('\\') => self.escape(raw, &mut out)?,
                Some(c) => {
                    out.push(c);
                    self.next += c.len_utf8();
                }
            }
        }
    }

    /// What a backslash and what follows it stand for.
    fn escape(&mut self, raw: bool, out: &mut String) -> Result<(), Wrong> {
        let at = self.at();
        self.next += 1;
        let rest = &self.text[self.next..];
        let Some(c) = rest.chars().next() else { return Err(Wrong::new(at, "the string has no end")) };
        if raw || !matches!(c, '\\' | '\'' | '"' | 'n' | 't' | 'r' | 'x' | 'u' | '\n') {
            out.push('\\');
            if c == '\n' {
                self.newline();
            } else {
                self.next += c.len_utf8();
            }
            out.push(c);
            return Ok(());
        }
        self.next += 1;
        let digits = match c {
            'x' => 2,
            'u' => 4,
            '\n' => {
                self.line += 1;
                self.start = self.next;
                return Ok(());
            }
            plain => {
                out.push(match plain {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    quoted => quoted,
                });
                return Ok(());
            }
        };
        let code = self.text.get(self.next..self.next + digits).and_then(|t| u32::from_str_radix(t, 16).ok());
        let c = code.and_then(char::from_u32);
        out.push(
            c.ok_or_else(|| Wrong::new(at, format!("'\\{c}' is not a character", c = c.unwrap_or('x'))))?,
        );
        self.next += digits;
        Ok(())
    }

    fn number(&mut self, at: At) -> Result<Token, Wrong> {
        let rest = &self.text[self.next..];
        let mut end = 0;
        for (i, c) in rest.char_indices() {
            let signed = matches!(c, '+' | '-') && rest[..i].ends_with(['e', 'E']);
            if !(c.is_alphanumeric() || c == '.' || c == '_' || signed) {
                break;
            }
            end = i + c.len_utf8();
        }
        let text = &rest[..end];
        let plain = text.chars().all(|c| matches!(c, '0'..='9' | '.' | 'e' | 'E' | '+' | '-'));
        match text.parse::<f64>() {
            Ok(n) if plain => {
                self.next += end;
                Ok(Token::Number(n))
            }
            _ => Err(Wrong::new(at, format!("'{}' is not a number", short(text)))),
        }
    }
}
