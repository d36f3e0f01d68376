//! What a fit of a language model takes, and how long: the table of `doctor --model`.

use serde_json::{Value, json};

use crate::llama::{Budget, LlamaConfig, Target, Workload};

/// A graphics card as its maker describes it.
struct Card {
    name: &'static str,
    /// Memory, in GB (10⁹ bytes) as cards are sold.
    gigabytes: u64,
    /// Dense products of 16-bit numbers with sums in f32, TFLOP/s.
    half: f64,
    /// Products in f32, TFLOP/s.
    single: f64,
    /// Bandwidth of its memory, GB/s.
    bandwidth: f64,
}

/// A card of each size, two of 24 GB. The T4 has no bf16 in its fast units; its figure is f16's.
const CARDS: [Card; 4] = [
    Card { name: "T4 16 GB", gigabytes: 16, half: 65.0, single: 8.1, bandwidth: 320.0 },
    Card { name: "L4 24 GB", gigabytes: 24, half: 121.0, single: 30.3, bandwidth: 300.0 },
    Card { name: "4090 24 GB", gigabytes: 24, half: 165.0, single: 82.6, bandwidth: 1008.0 },
    Card { name: "H100 80 GB", gigabytes: 80, half: 989.0, single: 67.0, bandwidth: 3350.0 },
];

/// Share of a card's arithmetic that its products reach.
const UTILIZATION: f64 = 0.4;

/// What a card's own programs take of its memory, in bytes, and the share of the rest that can be had in one piece.
const RESERVED: u64 = 600_000_000;
const USABLE: f64 = 0.95;

/// The column of the device at hand.
const HERE: &str = "here";

/// Number formats of the table, with their bytes, and whether blocks run fused.
const FORMATS: [(&str, u64, bool); 3] =
    [("bf16", 2, false), ("f32", 4, false), ("f32 CPU", 4, true)];

/// The sizes of the table.
#[derive(Debug, clap::Args)]
pub(super) struct SizeArgs {
    /// Ranks of an adapter on q, v and the MLP, for the table of a language model
    #[arg(long, value_name = "RANK", num_args = 1.., default_values_t = [16, 128])]
    ranks: Vec<usize>,
    /// Tokens of a sequence, for the same table
    #[arg(long, value_name = "TOKENS", num_args = 1.., default_values_t = [2048, 4096, 8192])]
    lengths: Vec<usize>,
    /// Sequences in a step, for the same table
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    rows: u32,
    /// Arithmetic that a device is known to reach in such a fit, in TFLOP/s, in place of what is assumed of the cards
    #[arg(long, value_name = "TFLOP/S")]
    pub(super) tflops: Option<f64>,
}

/// Measured speed of the device at hand, FLOP/s, by the format's name in the table.
pub(super) type Speeds = Vec<(&'static str, f64)>;

/// A line of the table.
pub(super) struct Fit {
    dtype: &'static str,
    work: Workload,
    budget: Budget,
    /// Seconds of a step on each card, and here if its speed is known.
    seconds: Vec<(&'static str, f64)>,
}

impl Fit {
    fn on(&self, card: &Card) -> bool {
        let room = (card.gigabytes * 1_000_000_000 - RESERVED) as f64 * USABLE;
        self.budget.fitting().max(self.budget.decoding()) as f64 <= room
    }

    pub(super) fn json(&self) -> Value {
        let cards = CARDS.iter();
        let fits: serde_json::Map<String, Value> =
            cards.map(|card| (card.gigabytes.to_string(), self.on(card).into())).collect();
        let seconds: serde_json::Map<String, Value> =
            self.seconds.iter().map(|(name, s)| ((*name).to_owned(), (*s).into())).collect();
        json!({
            "dtype": self.dtype, "fused": self.work.fused, "rows": self.work.rows,
            "rank": self.work.rank, "length": self.work.length,
            "gradient_checkpointing": self.work.gradient_checkpointing,
            "bytes": self.budget, "fitting_bytes": self.budget.fitting(),
            "memory_bytes": self.budget.beside_weights(),
            "decoding_bytes": self.budget.decoding(), "fits_gb": fits, "seconds": seconds,
        })
    }
}

/// What fits of all asked sizes take.
pub(super) fn fits(config: &LlamaConfig, args: &SizeArgs, here: &Speeds) -> Vec<Fit> {
    let mut all = Vec::new();
    let mut lengths: Vec<usize> = args.lengths.iter().map(|&n| n.min(config.max_length)).collect();
    lengths.dedup();
    let mlp = [Target::GateProj, Target::UpProj, Target::DownProj];
    let adapted = [&[Target::QProj, Target::VProj][..], &mlp].concat();
    for (dtype, weight_bytes, fused) in FORMATS {
        for &rank in &args.ranks {
            for &length in &lengths {
                for gradient_checkpointing in [false, true] {
                    let rows = args.rows as usize;
                    let work = Workload {
                        rows,
                        length,
                        targets: rows * length / 3,
                        rank,
                        adapted: adapted.clone(),
                        weight_bytes,
                        gradient_checkpointing,
                        fused,
                    };
                    let budget = config.budget(&work);
                    let mut seconds = Vec::new();
                    if !fused {
                        let on = |card: &Card| (card.name, step(&budget, card, dtype, args.tflops));
                        seconds.extend(CARDS.iter().map(on));
                    }
                    let measured = here.iter().filter(|(name, _)| *name == dtype);
                    seconds.extend(measured.map(|(_, speed)| (HERE, budget.flop as f64 / speed)));
                    all.push(Fit { dtype, work, budget, seconds });
                }
            }
        }
    }
    all
}

/// Seconds of a step on a card: those of its arithmetic, and those of moving what is kept.
fn step(budget: &Budget, card: &Card, dtype: &str, tflops: Option<f64>) -> f64 {
    let tera = |rate: f64| budget.flop as f64 / (rate * 1e12);
    let peak = if dtype == "bf16" { card.half } else { card.single };
    let assumed = || tera(UTILIZATION * peak) + budget.moved as f64 / (card.bandwidth * 1e9);
    tflops.map_or_else(assumed, tera)
}

/// The table for people.
pub(super) fn table(fits: &[Fit], tflops: Option<f64>) -> String {
    let speed = match tflops {
        Some(tflops) => format!("{tflops} TFLOP/s"),
        None => format!(
            "{:.0} % of its dense arithmetic, and all of its memory's bandwidth",
            100.0 * UTILIZATION
        ),
    };
    let mut text = format!(
        "\nA fit, in GB: one step, LoRA on q, v and the MLP, a third of the tokens learnt. f32 CPU runs fused; other\n\
         devices keep the attention's scores. --memory must allow the adapter (with its best values so far, gradients\n\
         and moments) and the activations. Decoding is a cache of as many tokens. Under a card: seconds of a step where\n\
         it fits, by {speed}; here: by the speed above.\n\
         Estimates; leave some room.\n\n",
    );
    let gb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e9);
    let names = ["dtype", "rank", "length", "checkpoints", "weights", "adapter", "activations"];
    let mut first: Vec<&str> = names.to_vec();
    first.extend(["fit", "decoding", "TFLOP"]);
    first.extend(CARDS.map(|card| card.name));
    first.push(HERE);
    let mut lines: Vec<Vec<String>> = vec![first.into_iter().map(str::to_owned).collect()];
    for fit in fits {
        let b = &fit.budget;
        let mut line = vec![
            fit.dtype.to_owned(),
            fit.work.rank.to_string(),
            fit.work.length.to_string(),
            if fit.work.gradient_checkpointing { "yes" } else { "no" }.to_owned(),
            gb(b.weights),
            gb(b.adapting()),
            gb(b.beside_weights() - b.adapting()),
            gb(b.fitting()),
            gb(b.decoding()),
            format!("{:.1}", b.flop as f64 / 1e12),
        ];
        let seconds = |name: &str| {
            let found = fit.seconds.iter().find(|(known, _)| *known == name);
            found.map_or("-".to_owned(), |(_, s)| format!("{s:.2} s"))
        };
        let cell = |card: &Card| if fit.on(card) { seconds(card.name) } else { "-".to_owned() };
        line.extend(CARDS.iter().map(cell));
        line.push(seconds(HERE));
        lines.push(line);
    }
    let width = |i: usize| lines.iter().map(|line| line[i].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}
