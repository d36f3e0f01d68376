//! `--device` → Burn device; the only file that names a backend.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

/// What `--device` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best that this build has and this machine offers: CUDA, a wgpu graphics card, the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The n-th device of wgpu (Vulkan, Metal, DirectX); `None` takes wgpu's own choice.
    Wgpu(Option<usize>),
    /// The n-th CUDA device.
    Cuda(usize),
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Not a device's name.
    #[error("`{0}` is no device; use auto, cpu, wgpu, wgpu:N, cuda or cuda:N")]
    Unknown(String),
    /// The backend is not part of this program.
    #[error(
        "this program was built without {backend}; build it with `cargo build --release --features \
         {feature}`, or use --device {instead}"
    )]
    NotBuilt {
        /// Name of the backend.
        backend: &'static str,
        /// Cargo feature that brings it.
        feature: &'static str,
        /// A device that this build has.
        instead: &'static str,
    },
    /// The backend found no such device.
    #[error("no such device: {device} ({reason}); `arc-ttt doctor` lists what there is")]
    NotFound {
        /// The device asked for.
        device: String,
        /// What the backend said.
        reason: String,
    },
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown(text.to_owned());
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, Some(index.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (name, index) {
            ("auto", None) => Ok(DeviceChoice::Auto),
            ("cpu", None) => Ok(DeviceChoice::Cpu),
            ("wgpu", index) => Ok(DeviceChoice::Wgpu(index)),
            ("cuda", index) => Ok(DeviceChoice::Cuda(index.unwrap_or(0))),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Wgpu(None) => f.write_str("wgpu"),
            DeviceChoice::Wgpu(Some(n)) => write!(f, "wgpu:{n}"),
            DeviceChoice::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

/// Opens a device; gives it with the choice that it stands for (never [`DeviceChoice::Auto`]).
///
/// # Errors
/// [`DeviceError`] if the backend is not built or finds no such device.
pub fn open(choice: DeviceChoice) -> Result<(Device, DeviceChoice), DeviceError> {
    match choice {
        DeviceChoice::Cpu => cpu().map(|device| (device, choice)),
        DeviceChoice::Wgpu(index) => wgpu(index).map(|device| (device, choice)),
        DeviceChoice::Cuda(index) => cuda(index).map(|device| (device, choice)),
        DeviceChoice::Auto => open(DeviceChoice::Cuda(0)).or_else(|_| open(DeviceChoice::Cpu)),
    }
}

#[cfg(feature = "cpu")]
fn cpu() -> Result<Device, DeviceError> {
    Ok(Device::flex())
}

#[cfg(not(feature = "cpu"))]
fn cpu() -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt { backend: "the CPU backend", feature: "cpu", instead: "auto" })
}

#[cfg(feature = "wgpu")]
fn wgpu(index: Option<usize>) -> Result<Device, DeviceError> {
    use burn::tensor::DeviceKind;
    let kind = index.map_or(DeviceKind::DefaultDevice, DeviceKind::DiscreteGpu);
    Ok(Device::wgpu(kind))
}

#[cfg(not(feature = "wgpu"))]
fn wgpu(_: Option<usize>) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt { backend: "wgpu", feature: "wgpu", instead: "cpu" })
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device, DeviceError> {
    Ok(Device::cuda(index))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt { backend: "CUDA", feature: "cuda", instead: "cpu" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_other_words_are_refused() {
        for name in ["auto", "cpu", "wgpu", "wgpu:1", "cuda:0"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        for name in ["gpu", "cpu:1", "cuda:", "cuda:x", "wgpu:-1", ""] {
            assert!(name.parse::<DeviceChoice>().is_err(), "{name}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_backend_that_is_not_built_says_how_to_build_it() {
        let error = open(DeviceChoice::Cuda(0)).unwrap_err().to_string();
        assert!(error.contains("--features cuda"), "{error}");
    }
}
