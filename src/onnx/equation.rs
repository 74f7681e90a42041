//! Einstein's summation as the operator `Einsum` writes it: `"bij,bjk->bik"`, `"...d,od->...o"`.

use std::collections::BTreeMap;

use super::file::OnnxError;
use super::proto::NodeProto;

/// An equation with its ellipses written out as indices of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Equation {
    /// One index per axis of each operand.
    pub inputs: Vec<Vec<char>>,
    /// One index per axis of the result.
    pub output: Vec<char>,
}

/// Indices that stand for the axes of an ellipsis, counted from its end: operands with fewer axes broadcast.
const ELLIPSIS: char = '\u{e000}';

impl Equation {
    /// Reads the equation of an `Einsum` node whose operands have these ranks.
    ///
    /// # Errors
    /// [`OnnxError::Node`] if it does not fit the operands, or names an index twice in one operand (a diagonal).
    pub fn of(node: &NodeProto, ranks: &[usize]) -> Result<Self, OnnxError> {
        let text: String = node.string("equation", "").chars().filter(|c| !c.is_whitespace()).collect();
        let fail = |reason: String| OnnxError::Node {
            node: node.label().into(),
            op: node.op_type.clone(),
            reason: format!("equation `{text}` {reason}"),
        };
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (text.as_str(), None),
        };
        let terms: Vec<&str> = left.split(',').collect();
        if terms.len() != ranks.len() {
            return Err(fail(format!("has {} terms for {} operands", terms.len(), ranks.len())));
        }
        let mut inputs = vec![];
        let mut widest = 0;
        for (term, rank) in terms.iter().zip(ranks) {
            let letters = term.replace("...", "").chars().count();
            let hidden = match rank.checked_sub(letters) {
                Some(hidden) if hidden == 0 || term.contains("...") => hidden,
                _ => return Err(fail(format!("has the term `{term}` for an operand with {rank} axes"))),
            };
            widest = widest.max(hidden);
            let indices = expand(term, hidden).ok_or_else(|| fail(format!("has the malformed term `{term}`")))?;
            if let Some(twice) = indices.iter().enumerate().find(|(i, c)| indices[..*i].contains(*c)) {
                return Err(fail(format!("names `{}` twice in one term; a diagonal has no rule", twice.1)));
            }
            inputs.push(indices);
        }
        let output = match right {
            Some(right) => expand(right, widest).ok_or_else(|| fail("has a malformed result".into()))?,
            None => implicit(&inputs, widest),
        };
        let unknown = output.iter().find(|c| !inputs.iter().flatten().any(|i| i == *c));
        if let Some(unknown) = unknown {
            return Err(fail(format!("has `{unknown}` only in the result")));
        }
        if let Some(twice) = output.iter().enumerate().find(|(i, c)| output[..*i].contains(*c)) {
            return Err(fail(format!("names `{}` twice in the result", twice.1)));
        }
        Ok(Self { inputs, output })
    }

    /// An equation in letters: `terms` to `output`, any indices of this one.
    pub fn text(&self, terms: &[&[char]], output: &[char]) -> String {
        let mut free = ('a'..='z').chain('A'..='Z').filter(|l| !self.inputs.iter().flatten().any(|i| i == l));
        let mut letters: BTreeMap<char, char> = BTreeMap::new();
        for index in self.inputs.iter().flatten().filter(|c| !c.is_ascii_alphabetic()) {
            if !letters.contains_key(index)
                && let Some(letter) = free.next()
            {
                letters.insert(*index, letter);
            }
        }
        let word = |term: &[char]| term.iter().map(|c| letters.get(c).unwrap_or(c)).collect::<String>();
        let left: Vec<String> = terms.iter().map(|t| word(t)).collect();
        format!("{}->{}", left.join(","), word(output))
    }
}

/// The letters of a term, its ellipsis as `hidden` indices; absent if it is malformed.
fn expand(term: &str, hidden: usize) -> Option<Vec<char>> {
    let dots = || (0..hidden as u32).rev().filter_map(|k| char::from_u32(ELLIPSIS as u32 + k));
    let (before, after) = match term.split_once("...") {
        Some((before, after)) => (before, Some(after)),
        None => (term, None),
    };
    let letters = before.chars().chain(after.unwrap_or_default().chars());
    if !letters.clone().all(|c| c.is_ascii_alphabetic()) {
        return None;
    }
    let mut indices: Vec<char> = before.chars().collect();
    if let Some(after) = after {
        indices.extend(dots());
        indices.extend(after.chars());
    }
    Some(indices)
}

/// Without `->`: the ellipsis, then every letter that occurs once, in the order of the alphabet.
fn implicit(inputs: &[Vec<char>], widest: usize) -> Vec<char> {
    let mut counts: BTreeMap<char, usize> = BTreeMap::new();
    for index in inputs.iter().flatten().filter(|c| c.is_ascii_alphabetic()) {
        *counts.entry(*index).or_default() += 1;
    }
    let mut output = expand("...", widest).unwrap_or_default();
    output.extend(counts.into_iter().filter(|(_, n)| *n == 1).map(|(c, _)| c));
    output
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::AttributeProto;

    fn equation(text: &str, ranks: &[usize]) -> Result<Equation, String> {
        let attribute = vec![AttributeProto::string("equation", text)];
        let node = NodeProto { name: "e".into(), op_type: "Einsum".into(), attribute, ..NodeProto::default() };
        Equation::of(&node, ranks).map_err(|e| e.to_string())
    }

    #[test]
    fn ellipses_and_implicit_results_are_written_out() {
        let e = equation("...ij, jk -> ...ik", &[4, 2]).unwrap();
        assert_eq!(e.inputs[0].len(), 4);
        assert_eq!(e.output.len(), 4);
        assert_eq!(e.text(&[&e.inputs[0], &e.inputs[1]], &e.output), "abij,jk->abik");
        let e = equation("ba", &[2]).unwrap();
        assert_eq!(e.output, ['a', 'b']);
        assert_eq!(equation("ij,jk", &[2, 2]).unwrap().output, ['i', 'k']);
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words() {
        assert!(equation("ij,jk->ik", &[2]).unwrap_err().contains("2 terms for 1 operands"));
        assert!(equation("ij->i", &[3]).unwrap_err().contains("`ij` for an operand with 3 axes"));
        assert!(equation("ii->i", &[2]).unwrap_err().contains("twice in one term"));
        assert!(equation("ij->ik", &[2]).unwrap_err().contains("only in the result"));
        assert!(equation("i1->i", &[2]).unwrap_err().contains("malformed"));
    }
}
