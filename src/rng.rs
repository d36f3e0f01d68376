//! Counter-based random streams.
//!
//! Every random choice is drawn from a stream named by what it is for (seed, task, stage, index), never
//! from a generator that travels through the program. So a choice does not depend on the order of tasks,
//! the number of threads, or where an interrupted run was resumed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

/// The random stream for `index` of `stage` of `task` under `seed`.
pub fn stream(seed: u64, task: &str, stage: &str, index: u64) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    for part in [task, stage] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.update(index.to_le_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn streams_differ_by_every_part_of_their_name_and_repeat() {
        let draw = |seed, task, stage, index| stream(seed, task, stage, index).random::<u64>();
        let first = draw(0, "a", "b", 0);
        assert_eq!(first, draw(0, "a", "b", 0));
        for other in
            [draw(1, "a", "b", 0), draw(0, "ab", "", 0), draw(0, "a", "c", 0), draw(0, "a", "b", 1)]
        {
            assert_ne!(first, other);
        }
    }
}
