//! `--device` → Burn device; the only module that names a backend.
//!
//! Burn opens a device on its first use and panics there if an adapter or a driver is missing. Here a device
//! is looked up in what its backend lists, opened and tried, so that whatever is wrong becomes a [`DeviceError`].

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod probe;
#[cfg(feature = "wgpu")]
mod wgpu;

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use burn::tensor::{DType, Device, FloatDType, Tensor};

#[cfg(not(any(feature = "cpu", feature = "wgpu", feature = "cuda")))]
compile_error!("choose at least one of the features `cpu`, `wgpu` and `cuda`");

/// What `--device` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best that this build has and this machine offers: CUDA, a graphics card through wgpu, the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The n-th adapter that wgpu (Vulkan, Metal, DirectX) lists; `None` takes the first discrete graphics
    /// card, else an integrated one, else whatever there is.
    Wgpu(Option<usize>),
    /// The n-th CUDA device.
    Cuda(usize),
}

/// Why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// The backend lists no such device.
    #[error("there is no device {device}: {reason}; `arc-ttt doctor` lists what there is")]
    NotFound {
        /// The device asked for.
        device: DeviceChoice,
        /// What the backend lists instead, or why it lists nothing.
        reason: String,
    },
    /// The device is listed, but cannot be opened or cannot compute.
    #[error(
        "the device {device} does not work: {reason}; update its driver, or use another --device"
    )]
    Failed {
        /// The device asked for.
        device: DeviceChoice,
        /// What the backend said.
        reason: String,
    },
}

/// One line of the list of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// How `--device` spells it.
    pub name: String,
    /// What it is: the adapter with its kind and driver, or the backend if there is none.
    pub description: String,
    /// Why it cannot be used: the backend is not built, nothing is found, or it fails; `None` if it works.
    pub problem: Option<DeviceError>,
}

/// A device that works, and what it is.
#[derive(Debug, Clone)]
struct Opened {
    device: Device,
    description: String,
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

/// Opens a device; gives it with the choice that it stands for: one device, never [`DeviceChoice::Auto`].
///
/// # Errors
/// [`DeviceError`] if the backend is not built, finds no such device, or the device does not work.
pub fn open(choice: DeviceChoice) -> Result<(Device, DeviceChoice), DeviceError> {
    let (opened, choice) = match choice {
        DeviceChoice::Auto => best()?,
        _ => opened(choice)?,
    };
    Ok((opened.device, choice))
}

/// Every device of every backend, opened to see whether it works; a backend without a device has one line
/// that says why.
pub fn devices() -> Vec<DeviceInfo> {
    let mut choices = vec![DeviceChoice::Cpu];
    match n_wgpu() {
        0 => choices.push(DeviceChoice::Wgpu(None)),
        n => choices.extend((0..n).map(|i| DeviceChoice::Wgpu(Some(i)))),
    }
    choices.extend((0..n_cuda().max(1)).map(DeviceChoice::Cuda));
    choices.into_iter().map(info).collect()
}

fn info(choice: DeviceChoice) -> DeviceInfo {
    let backend = match choice {
        DeviceChoice::Auto => "the best device",
        DeviceChoice::Cpu => "the CPU",
        DeviceChoice::Wgpu(_) => "graphics cards through wgpu",
        DeviceChoice::Cuda(_) => "NVIDIA cards through CUDA",
    };
    let (description, problem) = match opened(choice) {
        Ok((opened, _)) => (opened.description, None),
        Err(problem) => (backend.to_owned(), Some(problem)),
    };
    DeviceInfo { name: choice.to_string(), description, problem }
}

/// The first that works of CUDA, a graphics card, the CPU; in a build without the CPU, any adapter of wgpu.
fn best() -> Result<(Opened, DeviceChoice), DeviceError> {
    let wanted = [
        Some(DeviceChoice::Cuda(0)),
        graphics_card().map(|n| DeviceChoice::Wgpu(Some(n))),
        Some(DeviceChoice::Cpu),
        Some(DeviceChoice::Wgpu(None)),
    ];
    let mut why = None;
    for choice in wanted.into_iter().flatten() {
        match opened(choice) {
            Ok(opened) => return Ok(opened),
            Err(DeviceError::NotBuilt { .. }) => {}
            Err(error) => {
                if matches!(error, DeviceError::Failed { .. }) {
                    tracing::warn!("{error}");
                }
                why.get_or_insert(error);
            }
        }
    }
    Err(why.expect("at least one backend is built, and it did not open"))
}

/// Floating-point operations a second that products of large matrices reach on a device, from a few of them.
pub fn speed(device: &Device, dtype: FloatDType) -> f64 {
    const SIZE: usize = 2048;
    const AT_LEAST: Duration = Duration::from_millis(200);
    let matrix = Tensor::<2>::ones([SIZE, SIZE], (device, DType::from(dtype)));
    // Looking at a number waits for the product.
    let product = || matrix.clone().matmul(matrix.clone()).slice([0..1, 0..1]).into_data();
    // The first one may compile.
    product();
    let (started, mut products) = (Instant::now(), 0);
    while started.elapsed() < AT_LEAST {
        product();
        products += 1;
    }
    f64::from(products) * 2.0 * (SIZE as f64).powi(3) / started.elapsed().as_secs_f64()
}

fn opened(choice: DeviceChoice) -> Result<(Opened, DeviceChoice), DeviceError> {
    match choice {
        DeviceChoice::Auto => best(),
        DeviceChoice::Cpu => cpu().map(|opened| (opened, choice)),
        DeviceChoice::Wgpu(index) => wgpu(index),
        DeviceChoice::Cuda(index) => cuda(index).map(|opened| (opened, choice)),
    }
}

#[cfg(feature = "cpu")]
fn cpu() -> Result<Opened, DeviceError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let description = format!("{}, {cores} cores", std::env::consts::ARCH);
    Ok(Opened { device: Device::flex(), description })
}

#[cfg(not(feature = "cpu"))]
fn cpu() -> Result<Opened, DeviceError> {
    Err(not_built("the CPU backend", "cpu"))
}

#[cfg(feature = "wgpu")]
use self::wgpu::{graphics_card, n_adapters as n_wgpu, open as wgpu};

#[cfg(not(feature = "wgpu"))]
fn wgpu(_: Option<usize>) -> Result<(Opened, DeviceChoice), DeviceError> {
    Err(not_built("wgpu", "wgpu"))
}

#[cfg(not(feature = "wgpu"))]
fn n_wgpu() -> usize {
    0
}

#[cfg(not(feature = "wgpu"))]
fn graphics_card() -> Option<usize> {
    None
}

#[cfg(feature = "cuda")]
use self::cuda::{n_devices as n_cuda, open as cuda};

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> Result<Opened, DeviceError> {
    Err(not_built("CUDA", "cuda"))
}

#[cfg(not(feature = "cuda"))]
fn n_cuda() -> usize {
    0
}

#[cfg(not(all(feature = "cpu", feature = "wgpu", feature = "cuda")))]
fn not_built(backend: &'static str, feature: &'static str) -> DeviceError {
    let instead = match () {
        () if cfg!(feature = "cpu") => "cpu",
        () if cfg!(feature = "wgpu") => "wgpu",
        () => "cuda",
    };
    DeviceError::NotBuilt { backend, feature, instead }
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

    #[test]
    fn every_name_opens_or_is_refused_with_the_mend() {
        for name in ["cpu", "wgpu", "wgpu:99", "cuda", "cuda:99"] {
            let choice: DeviceChoice = name.parse().unwrap();
            match open(choice) {
                Ok((_, opened)) => assert_ne!(opened, DeviceChoice::Auto),
                Err(error) => {
                    let error = error.to_string();
                    let mend = ["--features", "arc-ttt doctor", "--device"];
                    assert!(mend.iter().any(|m| error.contains(m)), "{name}: {error}");
                }
            }
        }
    }

    #[cfg(feature = "cpu")]
    #[test]
    fn the_cpu_always_opens_and_auto_always_finds_something() {
        assert_eq!(open(DeviceChoice::Cpu).unwrap().1, DeviceChoice::Cpu);
        assert_ne!(open(DeviceChoice::Auto).unwrap().1, DeviceChoice::Auto);
    }

    #[cfg(not(any(feature = "wgpu", feature = "cuda")))]
    #[test]
    fn a_build_for_the_cpu_lists_it_and_says_how_to_build_the_others() {
        assert_eq!(open(DeviceChoice::Auto).unwrap().1, DeviceChoice::Cpu);
        let list = devices();
        let names: Vec<&str> = list.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["cpu", "wgpu", "cuda:0"]);
        assert_eq!(list[0].problem, None);
        for (device, feature) in list[1..].iter().zip(["wgpu", "cuda"]) {
            let problem = device.problem.as_ref().unwrap().to_string();
            assert!(problem.contains(&format!("--features {feature}")), "{problem}");
            assert!(problem.contains("--device cpu"), "{problem}");
        }
    }
}
