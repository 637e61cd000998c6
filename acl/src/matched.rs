//! Which rules of a text matched, by their places: whoever decides may count them, so they take a bit
//! each, and no room elsewhere.
//!
//! What they are called is told where it is explained.

use std::fmt;

use crate::rules::RULES_MAX;

const WORD_BITS: usize = u64::BITS as usize;
const WORDS: usize = RULES_MAX / WORD_BITS;
const _: () = assert!(RULES_MAX.is_multiple_of(WORD_BITS), "each rule has a bit");

/// Places of rules of one kind, of which there are [`RULES_MAX`] at most.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Matched([u64; WORDS]);

impl Matched {
    /// Whether the rule at a place is among them.
    pub fn has(&self, place: usize) -> bool {
        self.0.get(place / WORD_BITS).is_some_and(|word| word >> (place % WORD_BITS) & 1 == 1)
    }

    /// The places, in their order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        (0..RULES_MAX).filter(|place| self.has(*place))
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether none matched.
    pub fn is_empty(&self) -> bool {
        *self == Matched::default()
    }

    /// No text has more rules than there are bits.
    pub(crate) fn add(&mut self, place: usize) {
        if let Some(word) = self.0.get_mut(place / WORD_BITS) {
            *word |= 1 << (place % WORD_BITS);
        }
    }
}

impl FromIterator<usize> for Matched {
    fn from_iter<I: IntoIterator<Item = usize>>(places: I) -> Matched {
        let mut matched = Matched::default();
        places.into_iter().for_each(|place| matched.add(place));
        matched
    }
}

impl fmt::Debug for Matched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_rule_have_places() {
        let places = [0, 63, 64, RULES_MAX - 1];
        let matched: Matched = places.into_iter().collect();
        assert!(matched.iter().eq(places) && matched.len() == 4 && !matched.is_empty());
        assert!(matched.has(63) && !matched.has(62) && !matched.has(RULES_MAX));
        assert!(Matched::default().is_empty() && Matched::default().iter().next().is_none());
    }
}
