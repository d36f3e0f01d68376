//! Parts of a run for several processes or machines.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The `index`-th of `of` parts, counted from 1.
///
/// Task `k` (from 0) belongs to part `k mod of + 1`, so that parts are alike whatever order the tasks have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    index: usize,
    of: usize,
}

/// A text that names no part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no shard; write i/n with i from 1 to n, such as 1/4")]
pub struct BadShard(String);

impl Shard {
    /// Position among the parts, from 1.
    pub fn index(self) -> usize {
        self.index
    }

    /// Number of parts.
    pub fn of(self) -> usize {
        self.of
    }

    /// The items of this part, in their order.
    pub fn select<T>(self, items: Vec<T>) -> Vec<T> {
        let mine = |(k, item)| (k % self.of + 1 == self.index).then_some(item);
        items.into_iter().enumerate().filter_map(mine).collect()
    }
}

impl FromStr for Shard {
    type Err = BadShard;
    fn from_str(text: &str) -> Result<Self, BadShard> {
        let parse = || {
            let (index, of) = text.split_once('/')?;
            let (index, of) = (index.trim().parse().ok()?, of.trim().parse().ok()?);
            (1 <= index && index <= of).then_some(Shard { index, of })
        };
        parse().ok_or_else(|| BadShard(text.to_owned()))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl TryFrom<String> for Shard {
    type Error = BadShard;
    fn try_from(text: String) -> Result<Self, BadShard> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_disjoint_and_together_everything() {
        let items: Vec<_> = (0..11).collect();
        let mut together = Vec::new();
        for i in 1..=4 {
            let part = Shard { index: i, of: 4 }.select(items.clone());
            assert!(part.len() == 2 || part.len() == 3, "{part:?}");
            together.extend(part);
        }
        together.sort_unstable();
        assert_eq!(together, items);
    }

    #[test]
    fn texts_that_name_no_part_are_refused() {
        assert_eq!("2/3".parse(), Ok(Shard { index: 2, of: 3 }));
        for text in ["0/3", "4/3", "1", "1/0", "a/b", "", "-1/2", "1/2/3"] {
            assert_eq!(text.parse::<Shard>(), Err(BadShard(text.to_owned())));
        }
    }
}
