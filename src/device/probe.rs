//! Trying a device out where it may panic.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Mutex;

use burn::tensor::{Device, Tensor};

/// Runs `f`; a panic inside becomes its message, and is not printed.
pub(super) fn quietly<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    // The hook belongs to the whole process; two probes at a time could each restore the other's silence.
    static SILENCED: Mutex<()> = Mutex::new(());
    let guard = SILENCED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let hook = take_hook();
    set_hook(Box::new(|_| ()));
    let result = catch_unwind(AssertUnwindSafe(f));
    set_hook(hook);
    drop(guard);
    result.map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        // Messages of the backends span lines; errors here are one.
        text.unwrap_or("it panicked").split_whitespace().collect::<Vec<_>>().join(" ")
    })
}

/// Computes 2 · 3 on a device, which compiles and runs a kernel.
pub(super) fn try_out(device: &Device) -> Result<(), String> {
    let product = quietly(|| (Tensor::<1>::from_floats([3.0], device) * 2.0).into_scalar::<f32>())?;
    if product == 6.0 { Ok(()) } else { Err(format!("it says that 2 · 3 is {product}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_one_line() {
        assert_eq!(quietly(|| 7), Ok(7));
        assert_eq!(
            quietly(|| -> u8 { panic!("no driver\n  found: {}", 3) }).unwrap_err(),
            "no driver found: 3"
        );
        assert_eq!(quietly(|| -> u8 { panic!("none") }).unwrap_err(), "none");
    }

    #[cfg(feature = "cpu")]
    #[test]
    fn the_cpu_multiplies() {
        assert_eq!(try_out(&Device::flex()), Ok(()));
    }
}
