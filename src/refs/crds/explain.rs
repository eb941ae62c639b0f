//! Why each file of a mapping was chosen or not.

use super::build::Tree;
use super::condition::{number, quoted};
use super::context::Crds;
use super::dates::Date;
use super::key::Meets;
use super::mapping::{Rules, json};
use super::selector::{Choice, Order, Rule, Selector, Values, bracket, ordering_key, value_of};
use super::weigh::Match;
use super::{Answer, Facts};

/// A file that a mapping can give.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// The file, or several as JSON.
    pub file: String,
    /// The keys that lead to it.
    pub keys: String,
    /// Whether it is (part of) the answer.
    pub chosen: bool,
    /// Why it is, or is not.
    pub why: String,
}

impl Crds {
    /// Every file of a type's mapping, with the reason why it was chosen or lost.
    pub fn explain(&self, reftype: &str, facts: &Facts) -> Vec<Explained> {
        self.rules(reftype, facts, explain).unwrap_or_default()
    }
}

fn explain(rules: &Rules, values: &Values) -> Vec<Explained> {
    let outcome = rules.best(values);
    let values = rules.relevant_values(values).unwrap_or_else(|_| values.clone());
    let mut whys = vec![String::new(); rules.tree.files.len()];
    let mut teller = Teller { values: &values, chosen: &outcome.files, whys: &mut whys };
    teller.selector(&rules.tree.root);
    let unused = match &outcome.answer {
        Answer::Omitted => Some("the mapping leaves this type out (rmap_omit)"),
        Answer::NotApplicable if outcome.files.is_empty() => Some("not applicable to this exposure"),
        _ => None,
    };
    let Tree { files, .. } = &rules.tree;
    let file = |(i, file): (usize, &super::build::File)| {
        let why = whys.get(i).filter(|w| !w.is_empty()).cloned();
        Explained {
            file: file.answer.text().map_or_else(|| json(&file.answer).to_string(), str::to_owned),
            keys: file.keys.join(" "),
            chosen: outcome.files.contains(&i),
            why: why.or(unused.map(str::to_owned)).unwrap_or_else(|| match &outcome.answer {
                Answer::NotFound(why) => why.trim().to_owned(),
                _ => "chosen".to_owned(),
            }),
        }
    };
    files.iter().enumerate().map(file).collect()
}

/// Walks all of a tree.
struct Teller<'a> {
    values: &'a Values,
    chosen: &'a [usize],
    whys: &'a mut [String],
}

impl Teller<'_> {
    /// Says the same of every file below a choice.
    fn all(&mut self, choice: &Choice, why: &str) {
        match choice {
            Choice::File(_, file) => {
                if let Some(slot) = self.whys.get_mut(*file).filter(|s| s.is_empty()) {
                    *slot = why.to_owned();
                }
            }
            Choice::Then(selector) => selector.choices().into_iter().for_each(|c| self.all(c, why)),
        }
    }

    /// Whether a chosen file is below a choice.
    fn has_chosen(&self, choice: &Choice) -> bool {
        match choice {
            Choice::File(_, file) => self.chosen.contains(file),
            Choice::Then(selector) => selector.choices().iter().any(|c| self.has_chosen(c)),
        }
    }

    fn follow(&mut self, choice: &Choice) {
        if let Choice::Then(selector) = choice {
            self.selector(selector);
        }
    }

    fn selector(&mut self, selector: &Selector) {
        match &selector.rule {
            Rule::Match(m) => self.matches(m, &selector.parameters),
            Rule::Ordered(order, entries) => {
                let wanted = ordering_key(*order, &selector.parameters, self.values);
                for (i, entry) in entries.iter().enumerate() {
                    let next = entries.get(i + 1).map(|e| e.key.as_str());
                    let why = wanted.as_ref().map_err(|n| n.why.clone());
                    let why = match why {
                        Err(why) => why,
                        Ok(wanted) => self.lost(*order, wanted, &entry.key, next),
                    };
                    self.entry(&entry.choice, &why);
                }
            }
            Rule::Nearest(entries) => {
                let wanted = selector.number("GeometricallyNearest", self.values);
                for (n, entry) in entries {
                    let why = match &wanted {
                        Err(nothing) => nothing.why.clone(),
                        Ok(wanted) => {
                            format!("{} away; another is nearer", number((f64::from(*n) - wanted).abs()))
                        }
                    };
                    self.entry(&entry.choice, &why);
                }
            }
            Rule::Bracket(entries) => {
                let wanted = selector.number("Bracket", self.values);
                let sides = wanted.as_ref().ok().and_then(|w| bracket(entries, *w));
                for (i, (_, entry)) in entries.iter().enumerate() {
                    if sides.is_some_and(|(low, high)| i == low || i == high) {
                        self.follow(&entry.choice);
                    } else {
                        self.all(&entry.choice, "not next to the value");
                    }
                }
            }
            Rule::SelectVersion(entries) => {
                entries.iter().for_each(|(_, e)| self.entry(&e.choice, "for another version"));
            }
        }
    }

    /// An entry of a selector that takes one: the reason, unless the chosen one is below.
    fn entry(&mut self, choice: &Choice, why: &str) {
        if self.has_chosen(choice) {
            self.follow(choice);
        } else {
            self.all(choice, why);
        }
    }

    fn lost(&self, order: Order, wanted: &str, key: &str, next: Option<&str>) -> String {
        match order {
            Order::ClosestTime => {
                let days = |text: &str| Date::parse(text).map(|d| d.microseconds() as f64 / 86_400e6);
                match (days(key), days(wanted)) {
                    (Ok(a), Ok(b)) => format!("{:.1} d away; another is nearer in time", (a - b).abs()),
                    _ => format!("{} is no date", quoted(key)),
                }
            }
            _ if key > wanted => format!("only from {key} on; this is {wanted}"),
            _ => match next.filter(|next| *next <= wanted) {
                Some(next) => format!("superseded by the one from {next} on"),
                None => "superseded by one of another entry of equal weight".to_owned(),
            },
        }
    }

    fn matches(&mut self, m: &Match, parameters: &[String]) {
        let values: Vec<&str> = parameters.iter().map(|p| value_of(self.values, p)).collect();
        let chosen = m.entries.iter().filter(|e| self.has_chosen(&e.choice));
        let best = chosen.filter_map(|e| e.weight(&values)).max();
        for entry in &m.entries {
            match (entry.weight(&values), best) {
                (None, _) => {
                    let pairs = entry.keys.iter().zip(parameters).zip(&values);
                    let not = pairs.filter(|((key, _), value)| key.meets(value) == Meets::No);
                    let not: Vec<String> = not.map(|((_, p), v)| format!("{p} = {}", quoted(v))).collect();
                    self.all(&entry.choice, &format!("does not fit {}", not.join(", ")));
                }
                (Some(weight), Some(best)) if weight < best => {
                    self.all(
                        &entry.choice,
                        &format!("{weight} of its keys match; {best} of the chosen one's"),
                    );
                }
                _ => match &entry.choice {
                    Choice::Then(selector) => self.selector(selector),
                    file => self.entry(file, "fits, but the mapping gives no answer"),
                },
            }
        }
    }
}

impl Selector {
    fn choices(&self) -> Vec<&Choice> {
        match &self.rule {
            Rule::Match(m) => m.entries.iter().map(|e| &e.choice).collect(),
            Rule::Ordered(_, entries) => entries.iter().map(|e| &e.choice).collect(),
            Rule::Nearest(entries) => entries.iter().map(|(_, e)| &e.choice).collect(),
            Rule::Bracket(entries) => entries.iter().map(|(_, e)| &e.choice).collect(),
            Rule::SelectVersion(entries) => entries.iter().map(|(_, e)| &e.choice).collect(),
        }
    }
}
