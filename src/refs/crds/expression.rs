//! Conditions in a mapping's header (`rmap_relevance`, `rmap_omit`,
//! `parkey_relevance`): comparisons of a header's values, by their names, with
//! literals; `and`, `or`, `not`, `in`, `x if c else y`, parentheses.
//!
//! Values of a header are texts, and the meaning is Python's: a text and a number
//! are never equal, and one is not less than the other. Names are those of the
//! header with `_` for `.`.

use super::condition::quoted;

/// Parentheses and operators within each other, at most.
const MAX_DEPTH: usize = 60;

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    Number(f64),
    Bool(bool),
    None,
    Row(Vec<Value>),
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Value(Value),
    Name(String),
    Row(Vec<Node>),
    Not(Box<Node>),
    Negative(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
    /// A first value and what follows: `a < b <= c`.
    Chain(Box<Node>, Vec<(String, Node)>),
    If(Box<[Node; 3]>),
}

/// A condition.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Expression(Node);

impl Expression {
    /// Reads a condition.
    pub(super) fn new(text: &str) -> Result<Expression, String> {
        let mut parser = Parser { words: words(text)?.into_iter().peekable() };
        let node = parser.choice(0)?;
        match parser.words.next() {
            None => Ok(Expression(node)),
            Some(word) => Err(format!("{} is not understood", quoted(&word))),
        }
    }

    /// Whether it holds; `value` gives a name's text. An error is what the condition
    /// asks that has no answer.
    pub(super) fn holds<'a>(&self, value: &dyn Fn(&str) -> Option<&'a str>) -> Result<bool, String> {
        Ok(truth(&evaluate(&self.0, value)?))
    }
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Text(t) => !t.is_empty(),
        Value::Number(n) => *n != 0.0,
        Value::Bool(b) => *b,
        Value::None => false,
        Value::Row(row) => !row.is_empty(),
    }
}

fn evaluate<'a>(node: &Node, value: &dyn Fn(&str) -> Option<&'a str>) -> Result<Value, String> {
    let of = |node: &Node| evaluate(node, value);
    match node {
        Node::Value(v) => Ok(v.clone()),
        Node::Name(name) => {
            let text = value(name).ok_or_else(|| format!("name {} is not defined", quoted(name)))?;
            Ok(Value::Text(text.to_owned()))
        }
        Node::Row(row) => Ok(Value::Row(row.iter().map(of).collect::<Result<_, _>>()?)),
        Node::Not(node) => Ok(Value::Bool(!truth(&of(node)?))),
        Node::Negative(node) => match of(node)? {
            Value::Number(n) => Ok(Value::Number(-n)),
            _ => Err("only a number can be negative".into()),
        },
        Node::All(nodes) | Node::Any(nodes) => {
            let all = matches!(node, Node::All(_));
            let mut last = Value::Bool(all);
            for node in nodes {
                last = of(node)?;
                if truth(&last) != all {
                    break;
                }
            }
            Ok(last)
        }
        Node::Chain(first, rest) => {
            let mut left = of(first)?;
            for (operator, node) in rest {
                let right = of(node)?;
                if !compare(operator, &left, &right)? {
                    return Ok(Value::Bool(false));
                }
                left = right;
            }
            Ok(Value::Bool(true))
        }
        Node::If(nodes) => {
            let [yes, condition, no] = nodes.as_ref();
            if truth(&of(condition)?) { of(yes) } else { of(no) }
        }
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Bool(b), Value::Number(n)) | (Value::Number(n), Value::Bool(b)) => {
            *n == f64::from(u8::from(*b))
        }
        (Value::Row(a), Value::Row(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ => a == b,
    }
}

fn compare(operator: &str, a: &Value, b: &Value) -> Result<bool, String> {
    let order = match operator {
        "==" => return Ok(same(a, b)),
        "!=" => return Ok(!same(a, b)),
        "in" | "not in" => {
            let within = match (a, b) {
                (_, Value::Row(row)) => row.iter().any(|v| same(a, v)),
                (Value::Text(part), Value::Text(whole)) => whole.contains(part.as_str()),
                _ => return Err("'in' needs a tuple, or two texts".into()),
            };
            return Ok(within == (operator == "in"));
        }
        _ => match (a, b) {
            (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
            (Value::Number(a), Value::Number(b)) => a.partial_cmp(b),
            _ => return Err(format!("'{operator}' needs two texts or two numbers")),
        },
    };
    Ok(order.is_some_and(|order| match operator {
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    }))
}

/// Words of a condition: names, numbers, quoted texts (with their first quote),
/// operators.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(c) = rest.chars().next() {
        let end = match c {
            '\'' | '"' => {
                let end = rest[1..].find(c).ok_or("a string has no end")?;
                words.push(rest[..=end].to_owned());
                rest = rest[end + 2..].trim_start();
                continue;
            }
            c if c.is_alphanumeric() || matches!(c, '_' | '.') => {
                rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.'))).unwrap_or(rest.len())
            }
            _ if ["==", "!=", "<=", ">="].iter().any(|o| rest.starts_with(o)) => 2,
            '<' | '>' | '(' | ')' | '[' | ']' | ',' | '-' => 1,
            c => return Err(format!("{} is not understood", quoted(&c.to_string()))),
        };
        words.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    Ok(words)
}

struct Parser {
    words: std::iter::Peekable<std::vec::IntoIter<String>>,
}

impl Parser {
    fn took(&mut self, word: &str) -> bool {
        self.words.next_if(|w| w == word).is_some()
    }

    fn choice(&mut self, depth: usize) -> Result<Node, String> {
        if depth > MAX_DEPTH {
            return Err(format!("the condition has more than {MAX_DEPTH} levels"));
        }
        let yes = self.any(depth)?;
        if !self.took("if") {
            return Ok(yes);
        }
        let condition = self.any(depth + 1)?;
        if !self.took("else") {
            return Err("'if' needs an 'else'".into());
        }
        Ok(Node::If(Box::new([yes, condition, self.choice(depth + 1)?])))
    }

    fn any(&mut self, depth: usize) -> Result<Node, String> {
        let mut nodes = vec![self.all(depth)?];
        while self.took("or") {
            nodes.push(self.all(depth)?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Any(nodes) })
    }

    fn all(&mut self, depth: usize) -> Result<Node, String> {
        let mut nodes = vec![self.not(depth)?];
        while self.took("and") {
            nodes.push(self.not(depth)?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::All(nodes) })
    }

    fn not(&mut self, depth: usize) -> Result<Node, String> {
        if depth > MAX_DEPTH {
            return Err(format!("the condition has more than {MAX_DEPTH} levels"));
        }
        if self.took("not") {
            return Ok(Node::Not(Box::new(self.not(depth + 1)?)));
        }
        let first = self.value(depth)?;
        let mut rest = Vec::new();
        while let Some(operator) = self.operator()? {
            rest.push((operator, self.value(depth)?));
        }
        Ok(if rest.is_empty() { first } else { Node::Chain(Box::new(first), rest) })
    }

    fn operator(&mut self) -> Result<Option<String>, String> {
        let plain = ["==", "!=", "<", "<=", ">", ">=", "in"];
        if let Some(word) = self.words.next_if(|w| plain.contains(&w.as_str())) {
            return Ok(Some(word));
        }
        match self.took("not") {
            true if self.took("in") => Ok(Some("not in".into())),
            true => Err("'not' stands where 'not in' should".into()),
            false => Ok(None),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, String> {
        if depth > MAX_DEPTH {
            return Err(format!("the condition has more than {MAX_DEPTH} levels"));
        }
        let word = self.words.next().ok_or("the condition ends too early")?;
        match word.as_str() {
            "(" | "[" => self.row(if word == "(" { ")" } else { "]" }, depth + 1),
            "-" => Ok(Node::Negative(Box::new(self.value(depth + 1)?))),
            "True" => Ok(Node::Value(Value::Bool(true))),
            "False" => Ok(Node::Value(Value::Bool(false))),
            "None" => Ok(Node::Value(Value::None)),
            "and" | "or" | "in" | "if" | "else" | "is" | "lambda" => {
                Err(format!("{} stands where a value should", quoted(&word)))
            }
            text if text.starts_with(['\'', '"']) => Ok(Node::Value(Value::Text(text[1..].to_owned()))),
            number if number.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
                let n = number.parse().map_err(|_| format!("{} is not a number", quoted(number)))?;
                Ok(Node::Value(Value::Number(n)))
            }
            name if name.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                Ok(Node::Name(name.replace('.', "_")))
            }
            other => Err(format!("{} stands where a value should", quoted(other))),
        }
    }

    /// What is in parentheses: one condition, or a tuple.
    fn row(&mut self, close: &str, depth: usize) -> Result<Node, String> {
        let (mut row, mut comma) = (Vec::new(), false);
        while !self.took(close) {
            row.push(self.choice(depth)?);
            if !self.took(",") {
                if !self.took(close) {
                    return Err(format!("'{close}' is missing"));
                }
                break;
            }
            comma = true;
        }
        Ok(if row.len() == 1 && !comma && close == ")" { row.remove(0) } else { Node::Row(row) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str) -> Result<bool, String> {
        let value = |name: &str| match name {
            "META_INSTRUMENT_DETECTOR" => Some("IMG1"),
            "SCALE" => Some("4.0"),
            _ => None,
        };
        Expression::new(text)?.holds(&value)
    }

    #[test]
    fn conditions_mean_what_they_mean_in_python() {
        for (text, truth) in [
            ("(META_INSTRUMENT_DETECTOR != 'IFU')", true),
            ("META.INSTRUMENT.DETECTOR == \"IMG1\" and not SCALE in ('9.0',)", true),
            ("SCALE not in ['4.0', '9.0']", false),
            ("'IMG' in META_INSTRUMENT_DETECTOR", true),
            ("'3' < SCALE <= '4.0' < '5'", true),
            ("SCALE == 4.0", false),
            ("True if SCALE == '9.0' else False", false),
            ("(False or (SCALE == '4.0'))", true),
            ("-1 < 0.5", true),
            ("not not None", false),
            ("SCALE or missing", true),
        ] {
            assert_eq!(holds(text), Ok(truth), "{text}");
        }
        for text in ["missing == '1'", "SCALE > 3", "1 in 2"] {
            assert!(Expression::new(text).is_ok() && holds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_is_a_sentence() {
        let deep = ["(", "not ", "-", "1 if 1 else "].map(|w| w.repeat(100_000));
        let texts = ["__import__('os')", "a.b()", "x = 1", "'a", "1 +", "", "a is b", "lambda: 1", "1 if 2"];
        for text in texts.into_iter().chain(deep.iter().map(String::as_str)) {
            let sentence = Expression::new(text).expect_err("no condition");
            assert!(sentence.len() < 200, "{sentence}");
        }
    }
}
