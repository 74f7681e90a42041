//! Products and quotients of axes, some of which are known by name only.
//!
//! A product of names is written `64*n`: factor first, then the names in order. A name that is itself a formula of
//! another kind (`s0 + 1`) counts as one name, so equal texts mean equal sizes and nothing else is claimed.

use crate::onnx::access::Dim;

/// `factor · name · name…`.
struct Monomial {
    factor: usize,
    names: Vec<String>,
}

impl Monomial {
    fn of(dim: &Dim) -> Self {
        let text = match dim {
            Dim::Fixed(n) => return Self { factor: *n, names: vec![] },
            Dim::Symbol(text) => text,
        };
        if !text.split('*').all(is_plain) {
            return Self { factor: 1, names: vec![text.clone()] };
        }
        let mut result = Self { factor: 1, names: vec![] };
        for part in text.split('*') {
            match part.parse::<usize>().ok().and_then(|n| result.factor.checked_mul(n)) {
                Some(product) => result.factor = product,
                None => result.names.push(part.to_string()),
            }
        }
        result
    }

    fn dim(mut self) -> Dim {
        if self.names.is_empty() || self.factor == 0 {
            return Dim::Fixed(self.factor);
        }
        if let ([name], 1) = (&self.names[..], self.factor) {
            return Dim::Symbol(name.clone());
        }
        self.names.sort();
        let factor = (self.factor != 1).then(|| self.factor.to_string());
        let wrapped = |name: String| if is_plain(&name) { name } else { format!("({name})") };
        let parts: Vec<String> = factor.into_iter().chain(self.names.into_iter().map(wrapped)).collect();
        Dim::Symbol(parts.join("*"))
    }
}

/// Whether a text is a name or a number and no formula.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'))
}

/// The product; absent if it overflows.
pub fn product<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Option<Dim> {
    let mut result = Monomial { factor: 1, names: vec![] };
    for next in dims.into_iter().map(Monomial::of) {
        result.factor = result.factor.checked_mul(next.factor)?;
        result.names.extend(next.names);
    }
    Some(result.dim())
}

/// The quotient; absent if it is not a whole number, or that cannot be told.
pub fn quotient(above: &Dim, below: &Dim) -> Option<Dim> {
    let (mut above, below) = (Monomial::of(above), Monomial::of(below));
    if below.factor == 0 || !above.factor.is_multiple_of(below.factor) {
        return None;
    }
    above.factor /= below.factor;
    for name in &below.names {
        let at = above.names.iter().position(|n| n == name)?;
        above.names.remove(at);
    }
    Some(above.dim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_quotients_undo_each_other() {
        let (n, m) = (Dim::from("n"), Dim::from("m"));
        let windows = product([&n, &Dim::Fixed(64)]).unwrap();
        assert_eq!(windows, Dim::from("64*n"));
        assert_eq!(quotient(&windows, &Dim::Fixed(64)), Some(n.clone()));
        assert_eq!(product([&m, &windows]), Some(Dim::from("64*m*n")));
        assert_eq!(quotient(&windows, &Dim::Fixed(3)), None);
        assert_eq!(quotient(&windows, &m), None);
        assert_eq!(product([&n, &Dim::Fixed(0)]), Some(Dim::Fixed(0)));
        assert_eq!(product([&Dim::Fixed(usize::MAX), &Dim::Fixed(2)]), None);
    }

    #[test]
    fn a_formula_is_one_name() {
        let formula = Dim::from("2*s0 + 1");
        let twice = product([&formula, &Dim::Fixed(2)]).unwrap();
        assert_eq!(twice, Dim::from("2*(2*s0 + 1)"));
        assert_eq!(quotient(&formula, &Dim::Fixed(2)), None);
    }
}
