//! Hash tables with a secret key: nobody who fills one can foretell where its entries lie, and
//! nothing may hang on their order.
//!
//! A test can have every table of its thread keyed by a number it chooses, and so repeats a run to
//! the last entry (feature `seeded`, for tests alone).

use std::hash::{BuildHasher, DefaultHasher, RandomState};

/// A table of keys and values.
pub type HashMap<K, V> = std::collections::HashMap<K, V, Keyed>;
/// A table of keys.
pub type HashSet<K> = std::collections::HashSet<K, Keyed>;

/// The key of one table.
#[derive(Clone, Debug)]
pub struct Keyed(Key);

#[derive(Clone, Debug)]
enum Key {
    Secret(RandomState),
    #[cfg(feature = "seeded")]
    Seeded(u64),
}

#[cfg(feature = "seeded")]
thread_local! {
    static SEED: std::cell::Cell<Option<u64>> = const { std::cell::Cell::new(None) };
}

/// Keys the tables that this thread makes from now on by a number, or in secret again.
#[cfg(feature = "seeded")]
pub fn seed(seed: Option<u64>) {
    SEED.set(seed);
}

impl Default for Keyed {
    fn default() -> Keyed {
        #[cfg(feature = "seeded")]
        if let Some(seed) = SEED.get() {
            return Keyed(Key::Seeded(seed));
        }
        Keyed(Key::Secret(RandomState::new()))
    }
}

impl BuildHasher for Keyed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        match &self.0 {
            Key::Secret(key) => key.build_hasher(),
            #[cfg(feature = "seeded")]
            Key::Seeded(seed) => {
                let mut hasher = DefaultHasher::new();
                std::hash::Hasher::write_u64(&mut hasher, *seed);
                hasher
            }
        }
    }
}

#[cfg(all(test, feature = "seeded"))]
mod tests {
    use super::*;

    fn order() -> Vec<u32> {
        (0..1000).collect::<HashSet<u32>>().into_iter().collect()
    }

    #[test]
    fn a_seed_repeats_the_order_and_another_one_changes_it() {
        seed(Some(1));
        let first = order();
        assert_eq!(first, order());
        seed(Some(2));
        assert_ne!(first, order());
        seed(None);
        assert_ne!(order(), order());
    }
}
