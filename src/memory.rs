//! The process's own memory: how the allocator treats it, how much was used at most, files mapped into it.
//!
//! The only `unsafe` outside [`crate::kernel`].

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;

/// Maps a file into memory: its pages are read when they are first looked at, and nothing is copied.
///
/// The file must stay as it is while it is mapped; if another program cuts it short, the system ends this one at
/// the first look behind the new end.
///
/// # Errors
/// If the file cannot be opened or mapped.
pub fn map_file(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: the mapping is read-only. That no one changes the file meanwhile is asked of the caller, as every
    // reader of model files does; nothing can enforce it.
    unsafe { Mmap::map(&file) }
}

/// Gives the pages of a part of a mapped file back to the system, so that they no longer count as this process's memory.
/// Looked at again, they are read again.
pub fn release(map: &Mmap, part: Range<usize>) {
    #[cfg(unix)]
    {
        // SAFETY: a page of a read-only mapping of a file holds what the file does, before and after.
        let released = unsafe {
            map.unchecked_advise_range(UncheckedAdvice::DontNeed, part.start, part.len())
        };
        // A kernel that refuses keeps the pages until the file is unmapped.
        let _ = released;
    }
    #[cfg(not(unix))]
    let _ = (map, part);
}

/// Tells glibc's allocator to keep freed memory instead of handing it back to the kernel.
///
/// A training step allocates and frees the same large tensors over and over. By default glibc maps each
/// from the kernel and unmaps it again, so that half of a step goes to page faults. Does nothing with other
/// allocators. Call it before any thread starts.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const TOP_PAD: libc::c_int = 64 << 20;
        // SAFETY: mallopt only sets parameters of the allocator, and no other thread runs yet.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
            libc::mallopt(libc::M_TOP_PAD, TOP_PAD);
        }
    }
}

/// The most physical memory that this process has held, in bytes; `None` where the system does not say.
pub fn peak_bytes() -> Option<u64> {
    // Linux carries getrusage's maximum over from the parent through fork and exec, so that a small program
    // started by a large one looks large; VmHWM begins anew.
    #[cfg(target_os = "linux")]
    return proc_kibibytes("/proc/self/status", "VmHWM:");
    #[cfg(not(target_os = "linux"))]
    return rusage_peak_bytes();
}

/// The machine's physical memory in bytes; `None` where the system does not say.
pub fn total_bytes() -> Option<u64> {
    proc_kibibytes("/proc/meminfo", "MemTotal:")
}

/// The value of `key` in a file of lines such as `VmHWM:   1234 kB`, in bytes.
fn proc_kibibytes(path: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(all(unix, not(target_os = "linux")))]
fn rusage_peak_bytes() -> Option<u64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage fills the struct it is given; all-zero bytes are a valid rusage anyway.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) != 0 {
            return None;
        }
        usage.assume_init()
    };
    // Apple's systems count bytes, the other ones KiB.
    let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
    u64::try_from(usage.ru_maxrss).ok().map(|n| n * unit)
}

#[cfg(not(unix))]
fn rusage_peak_bytes() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_rises_with_what_is_touched_and_stays_below_the_machine() {
        let before = peak_bytes().unwrap();
        let block = std::hint::black_box(vec![1u8; before as usize + (64 << 20)]);
        let after = peak_bytes().unwrap();
        assert!(after >= before + (32 << 20), "{before} then {after} after {}", block.len());
        assert!(after < total_bytes().unwrap());
    }
}
