//! SPDX licence expressions: whether a list of allowed licences satisfies one.

use anyhow::{Result, bail, ensure};

/// Whether `expression` can be met with licences of `allowed` alone.
pub(super) fn is_allowed(expression: &str, allowed: &[String]) -> Result<bool> {
    // Before SPDX expressions a slash meant "or".
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    let met = parser.alternatives()?;
    ensure!(parser.words.is_empty(), "{expression:?} is no licence expression");
    Ok(met)
}

/// What is left to read. `AND` binds more strongly than `OR`.
struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a [String],
}

impl Parser<'_> {
    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }

    fn alternatives(&mut self) -> Result<bool> {
        let mut met = self.conjunction()?;
        while self.take("OR") {
            met |= self.conjunction()?;
        }
        Ok(met)
    }

    fn conjunction(&mut self) -> Result<bool> {
        let mut met = self.licence()?;
        while self.take("AND") {
            met &= self.licence()?;
        }
        Ok(met)
    }

    fn licence(&mut self) -> Result<bool> {
        if self.take("(") {
            let met = self.alternatives()?;
            ensure!(self.take(")"), "a licence expression lacks a closing parenthesis");
            return Ok(met);
        }
        let Some((name, rest)) = self.words.split_first() else {
            bail!("a licence expression ends too early")
        };
        self.words = rest;
        // "Or any later version" includes this one.
        let mut name = name.strip_suffix('+').unwrap_or(name).to_owned();
        if self.take("WITH") {
            let Some((exception, rest)) = self.words.split_first() else {
                bail!("a licence expression ends after WITH");
            };
            self.words = rest;
            name = format!("{name} WITH {exception}");
        }
        Ok(self.allowed.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_or_not() {
        let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        let met = |text| is_allowed(text, &allowed).unwrap();
        assert!(met("MIT"));
        assert!(met("GPL-3.0 OR MIT"));
        assert!(met("Unlicense/MIT"));
        assert!(met("MIT+"));
        assert!(met("Apache-2.0 WITH LLVM-exception"));
        assert!(met("(GPL-3.0 OR Apache-2.0) AND MIT"));
        assert!(!met("MIT WITH other-exception"));
        assert!(!met("GPL-3.0"));
        assert!(!met("MIT AND ISC"));
        assert!(met("MIT OR ISC AND Zlib"));
        for wrong in ["", "MIT OR", "(MIT", "MIT MIT", "MIT WITH"] {
            assert!(is_allowed(wrong, &allowed).is_err(), "{wrong:?}");
        }
    }
}
