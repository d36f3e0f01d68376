//! CUDA devices. The driver is loaded when it is first asked for, so this program starts without one.

use std::sync::OnceLock;

use burn::tensor::{Device, DeviceType};

use super::probe::{quietly, try_out};
use super::{DeviceChoice, DeviceError, Opened};

/// What became of opening each device, filled on first use.
fn slots() -> &'static [OnceLock<Result<Opened, String>>] {
    static SLOTS: OnceLock<Vec<OnceLock<Result<Opened, String>>>> = OnceLock::new();
    SLOTS.get_or_init(|| {
        let n = quietly(|| Device::enumerate(DeviceType::Cuda).into_vec().len()).unwrap_or(0);
        (0..n).map(|_| OnceLock::new()).collect()
    })
}

pub(super) fn n_devices() -> usize {
    slots().len()
}

pub(super) fn open(index: usize) -> Result<Opened, DeviceError> {
    let device = DeviceChoice::Cuda(index);
    let Some(slot) = slots().get(index) else {
        let reason = match n_devices() {
            0 => "no NVIDIA driver answers, or it has no card".to_owned(),
            1 => "the driver has one card, cuda:0".to_owned(),
            n => format!("the driver has {n} cards, cuda:0 to cuda:{}", n - 1),
        };
        return Err(DeviceError::NotFound { device, reason });
    };
    let opened = slot.get_or_init(|| init(index)).clone();
    opened.map_err(|reason| DeviceError::Failed { device, reason })
}

fn init(index: usize) -> Result<Opened, String> {
    let device = Device::cuda(index);
    let name = quietly(|| device.identity().map(|identity| identity.name))?;
    try_out(&device)?;
    Ok(Opened { device, description: name.unwrap_or_else(|| "NVIDIA card".to_owned()) })
}
