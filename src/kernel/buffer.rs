//! Recycled scratch memory.
//!
//! A training step needs the same few dozen buffers every time. Taking them from the allocator and giving
//! them back makes the kernel map and clear the pages anew in each step, which costs more than the arithmetic
//! at these sizes; so buffers return to a shared free list instead.

use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// Free buffers, shortest first.
static FREE: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// More free buffers than this are given back to the allocator.
const MOST_FREE: usize = 256;

/// A slice of floats whose memory is reused. Fresh buffers hold arbitrary earlier values.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// At least `len` floats. Never cut while it is recycled: what was once written need not be cleared again.
    data: Vec<f32>,
    len: usize,
}

impl Buffer {
    /// A buffer of `len` floats with arbitrary values.
    pub(crate) fn stale(len: usize) -> Self {
        let found = {
            let mut free = FREE.lock().expect("no panic while the lock is held");
            let at = free.partition_point(|b| b.len() < len);
            // A far larger buffer is left for whoever needs it.
            match free.get(at) {
                Some(b) if b.len() <= 2 * len + 1024 => Some(free.remove(at)),
                _ => None,
            }
        };
        // Ragged batches ask for a slightly different size each time; rounded up, one buffer serves many.
        let rounded = || len.next_multiple_of((len.next_power_of_two() / 8).max(64));
        Self { data: found.unwrap_or_else(|| vec![0.0; rounded()]), len }
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

impl Drop for Buffer {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        if data.is_empty() {
            return;
        }
        // A poisoned list only means that some thread panicked elsewhere; the memory is then freed.
        if let Ok(mut free) = FREE.lock()
            && free.len() < MOST_FREE
        {
            let at = free.partition_point(|b| b.len() < data.len());
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
