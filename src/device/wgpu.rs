//! Adapters of wgpu: Vulkan, Metal or DirectX, hardware or software.

use std::sync::OnceLock;

use burn::tensor::wgpu::wgpu::DeviceType as AdapterKind;
use burn::tensor::{Device, DeviceKind, DeviceType};

use super::probe::{quietly, try_out};
use super::{DeviceChoice, DeviceError, Opened};

/// An adapter, opened on first use and then shared: Burn opens each at most once.
struct Adapter {
    kind: DeviceKind,
    opened: OnceLock<Result<Opened, String>>,
}

/// Adapters of one kind that are looked for. Burn names an adapter by its kind and number.
const MOST_OF_A_KIND: usize = 16;

/// All adapters in wgpu's order, listed once.
fn adapters() -> &'static [Adapter] {
    static ADAPTERS: OnceLock<Vec<Adapter>> = OnceLock::new();
    ADAPTERS.get_or_init(|| {
        let listed = quietly(|| Device::enumerate(DeviceType::Wgpu).into_vec()).unwrap_or_default();
        let kinds: Vec<DeviceKind> =
            [DeviceKind::DiscreteGpu, DeviceKind::IntegratedGpu, DeviceKind::VirtualGpu]
                .into_iter()
                .flat_map(|kind| (0..MOST_OF_A_KIND).map(kind))
                .chain([DeviceKind::Cpu])
                .collect();
        let kind = |device: &Device| kinds.iter().find(|&k| Device::wgpu(k.clone()) == *device);
        let adapter = |kind: &DeviceKind| Adapter { kind: kind.clone(), opened: OnceLock::new() };
        listed.iter().filter_map(kind).map(adapter).collect()
    })
}

pub(super) fn n_adapters() -> usize {
    adapters().len()
}

/// How much an adapter is preferred; the less the better.
fn rank(adapter: &Adapter) -> usize {
    match adapter.kind {
        DeviceKind::DiscreteGpu(_) => 0,
        DeviceKind::IntegratedGpu(_) => 1,
        DeviceKind::VirtualGpu(_) => 2,
        _ => 3,
    }
}

fn preferred() -> Option<usize> {
    (0..n_adapters()).min_by_key(|&i| rank(&adapters()[i]))
}

/// The preferred adapter, if it is a card or a part of the processor and no software.
pub(super) fn graphics_card() -> Option<usize> {
    preferred().filter(|&i| rank(&adapters()[i]) < 2)
}

pub(super) fn open(index: Option<usize>) -> Result<(Opened, DeviceChoice), DeviceError> {
    let not_found = || {
        let reason = match n_adapters() {
            0 => "wgpu finds no adapter; install the graphics card's driver (Linux: with Vulkan), or \
                  Mesa's software Vulkan"
                .to_owned(),
            1 => "wgpu finds one adapter, wgpu:0".to_owned(),
            n => format!("wgpu finds {n} adapters, wgpu:0 to wgpu:{}", n - 1),
        };
        DeviceError::NotFound { device: DeviceChoice::Wgpu(index), reason }
    };
    let index = index.or_else(preferred).ok_or_else(not_found)?;
    let adapter = adapters().get(index).ok_or_else(not_found)?;
    let choice = DeviceChoice::Wgpu(Some(index));
    match adapter.opened.get_or_init(|| init(&adapter.kind)) {
        Ok(opened) => Ok((opened.clone(), choice)),
        Err(reason) => Err(DeviceError::Failed { device: choice, reason: reason.clone() }),
    }
}

fn init(kind: &DeviceKind) -> Result<Opened, String> {
    let options = Device::wgpu_options().device_kind(kind.clone());
    let (device, setup) = quietly(|| options.init_with_setup())?.map_err(|e| e.to_string())?;
    try_out(&device)?;
    let info = setup.adapter.get_info();
    let kind = match info.device_type {
        AdapterKind::DiscreteGpu => "discrete",
        AdapterKind::IntegratedGpu => "integrated",
        AdapterKind::VirtualGpu => "virtual",
        AdapterKind::Cpu => "software",
        AdapterKind::Other => "other",
    };
    let description = format!("{}, {kind}, {} {}", info.name, info.backend, info.driver_info);
    Ok(Opened { device, description: description.trim_end().to_owned() })
}
