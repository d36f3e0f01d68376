//! Recycled scratch memory.
//!
//! A training step needs the same few dozen buffers every time. Taking them from the allocator and giving
//! them back makes the kernel map and clear the pages anew in each step, which costs more than the arithmetic
//! at these sizes; so buffers return to free lists instead. Small ones are asked for thousands of times a step: each thread
//! keeps some of its own, so that threads do not wait for each other.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// Free buffers of all threads, shortest first: small ones, and larger ones.
static FREE: [Mutex<Vec<Vec<f32>>>; 2] = [const { Mutex::new(Vec::new()) }; 2];

/// More free buffers than this are given back to the allocator, of small and of larger ones each.
const MOST_FREE: usize = 256;

/// Buffers of at most this many floats are kept by threads.
const SMALL: usize = 1 << 14;

/// Sizes of small buffers ([`rounded`]): 8 up to 512 floats, then 4 in each doubling.
const N_CLASSES: usize = 8 + 4 * (SMALL.ilog2() - 9) as usize;

/// Free buffers of a size that a thread keeps; further ones go to [`FREE`].
const MOST_OWN: usize = 6;

thread_local! {
    /// A thread's free small buffers, by their class.
    static OWN: RefCell<[Vec<Vec<f32>>; N_CLASSES]> = const { RefCell::new([const { Vec::new() }; N_CLASSES]) };
}

/// A slice of floats whose memory is reused. Fresh buffers hold arbitrary earlier values.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// At least `len` floats. Never cut while it is recycled: what was once written need not be cleared again.
    data: Vec<f32>,
    len: usize,
}

/// Ragged batches ask for a slightly different size each time; rounded up, one buffer serves many.
fn rounded(len: usize) -> usize {
    len.next_multiple_of((len.next_power_of_two() / 8).max(64))
}

/// The class of a rounded size of at most [`SMALL`] floats.
fn class(size: usize) -> usize {
    if size <= 512 {
        return size / 64 - 1;
    }
    // The sizes up to 2^p are 5, 6, 7 and 8 eighths of it.
    let p = size.next_power_of_two().ilog2() as usize;
    8 + 4 * (p - 10) + (size >> (p - 3)) - 5
}

impl Buffer {
    /// A buffer of `len` floats with arbitrary values.
    pub(crate) fn stale(len: usize) -> Self {
        let size = rounded(len);
        if len == 0 {
            return Self { data: Vec::new(), len };
        }
        let own = || OWN.with_borrow_mut(|own| own[class(size)].pop());
        let found = Some(()).filter(|_| size <= SMALL).and_then(|()| own());
        let data = found.or_else(|| shared(size)).unwrap_or_else(|| vec![0.0; size]);
        Self { data, len }
    }

    /// A buffer of `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let mut buffer = Self::stale(len);
        buffer.fill(0.0);
        buffer
    }

    /// The same memory as words, for packed values.
    pub(crate) fn bits(&self) -> &[u32] {
        // SAFETY: f32 and u32 have the same size and alignment, and every bit pattern is valid for both.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr().cast(), self.len) }
    }

    /// The same memory as words, for packed values.
    pub(crate) fn bits_mut(&mut self) -> &mut [u32] {
        // SAFETY: as in `bits`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_mut_ptr().cast(), self.len) }
    }

    /// The floats as a vector of their own, for handing to a tensor.
    pub(crate) fn into_vec(mut self) -> Vec<f32> {
        let mut data = std::mem::take(&mut self.data);
        data.truncate(self.len);
        data
    }
}

/// Words as the floats whose bits they are.
pub(crate) fn as_floats(words: &mut [u32]) -> &mut [f32] {
    // SAFETY: f32 and u32 have the same size and alignment, and every bit pattern is valid for both.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len()) }
}

/// A buffer of at least `size` floats from [`FREE`].
fn shared(size: usize) -> Option<Vec<f32>> {
    let mut free = FREE[usize::from(size > SMALL)].lock().expect("no panic while the lock is held");
    let at = free.partition_point(|b| b.len() < size);
    // A far larger buffer is left for whoever needs it; a small one has its size's class.
    let most = if size <= SMALL { size } else { 2 * size };
    (free.get(at)?.len() <= most).then(|| free.remove(at))
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        if data.is_empty() {
            return;
        }
        let size = data.len();
        let keep = |data: Vec<f32>| {
            OWN.with_borrow_mut(|own| {
                let own = &mut own[class(size)];
                if own.len() < MOST_OWN {
                    own.push(data);
                    None
                } else {
                    Some(data)
                }
            })
        };
        let left = if size <= SMALL { keep(data) } else { Some(data) };
        // A poisoned list only means that some thread panicked elsewhere; the memory is then freed.
        if let Some(data) = left
            && let Ok(mut free) = FREE[usize::from(size > SMALL)].lock()
            && free.len() < MOST_FREE
        {
            let at = free.partition_point(|b| b.len() < size);
            free.insert(at, data);
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.data[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_a_class_of_its_own() {
        let mut classes: Vec<Option<usize>> = vec![None; N_CLASSES];
        for len in 1..=SMALL {
            let size = rounded(len);
            assert!(
                len <= size && size <= (len + 64).max(len + len / 4),
                "{size} floats for {len}"
            );
            let of_class = &mut classes[class(size)];
            assert_eq!(*of_class.get_or_insert(size), size, "{len}");
        }
        assert!(classes.iter().all(Option::is_some));
    }

    #[test]
    fn a_buffer_comes_back_to_the_thread_that_gave_it_up() {
        let mut buffer = Buffer::stale(3000);
        buffer.fill(7.0);
        let place = buffer.as_ptr();
        drop(buffer);
        let again = Buffer::stale(2900);
        assert_eq!((again.as_ptr(), again.len()), (place, 2900));
        assert!(again.iter().all(|&v| v == 7.0));
        assert!(Buffer::zeros(2900).iter().all(|&v| v == 0.0));
    }
}
