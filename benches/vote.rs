//! From cell maps to two attempts, at the largest size that a run meets: 128 views of 30×30 cells.

use std::hint::black_box;

use arc_ttt::arc::{Grid, View};
use arc_ttt::candidate::{
    CandidateConfig, CellMap, MapMeta, N_CLASSES, PAD_CLASS, ViewsConfig, collect_candidates,
    sample_views, uncertainty,
};
use arc_ttt::dataset::Format;
use arc_ttt::rng;
use arc_ttt::vote::{VoteConfig, tally_votes};
use rand::Rng;

const SIDE: usize = 30;
const N_VIEWS: usize = 128;

fn main() {
    divan::main();
}

/// A map that is sure of most cells of `truth` and unsure of a few, as a fitted model is.
fn map(view: View, truth: &Grid, forced: bool, rng: &mut impl Rng) -> CellMap {
    let shown = view.apply(truth);
    let log_probs = shown.cells().iter().map(|&color| {
        let mut logits: [f32; N_CLASSES] = std::array::from_fn(|_| rng.random_range(-8.0..-5.0));
        let surest = if rng.random_bool(0.02) { rng.random_range(0..10) } else { color };
        logits[usize::from(surest)] = 0.0;
        if rng.random_bool(0.02) {
            logits[rng.random_range(0..10_usize)] = -0.5;
        }
        logits[PAD_CLASS] = -9.0;
        let log_sum = logits.iter().map(|l| l.exp()).sum::<f32>().ln();
        logits.map(|l| l - log_sum)
    });
    CellMap {
        format: Format::Icl,
        height: shown.height(),
        width: shown.width(),
        log_probs: log_probs.collect(),
        shape: forced.then(|| shown.shape()),
        view,
    }
}

fn maps(forced: bool) -> Vec<CellMap> {
    let mut rng = rng::stream(0, "bench", "vote", 0);
    let truth = Grid::from_fn(SIDE, SIDE, |row, column| ((row / 3 + column / 5) % 10) as u8);
    let config = ViewsConfig { count: N_VIEWS, ..Default::default() };
    let views = sample_views(&config, 4, 0, "bench");
    views.into_iter().map(|view| map(view, &truth, forced, &mut rng)).collect()
}

#[divan::bench(args = [true, false])]
fn collect(bencher: divan::Bencher, forced: bool) {
    let maps = maps(forced);
    let config = CandidateConfig::default();
    eprintln!("{} candidates", collect_candidates(&maps, &config).len());
    bencher.bench_local(|| collect_candidates(black_box(&maps), &config));
}

#[divan::bench]
fn tally(bencher: divan::Bencher) {
    let maps = maps(true);
    let candidates = collect_candidates(&maps, &CandidateConfig::default());
    let meta: Vec<MapMeta> = maps.iter().map(CellMap::meta).collect();
    let config = VoteConfig::default();
    bencher.bench_local(|| tally_votes(black_box(&candidates), &meta, &config));
}

#[divan::bench]
fn whole_vote(bencher: divan::Bencher) {
    let maps = maps(true);
    bencher.bench_local(|| {
        let candidates = collect_candidates(black_box(&maps), &CandidateConfig::default());
        let meta: Vec<MapMeta> = maps.iter().map(CellMap::meta).collect();
        let tally = tally_votes(&candidates, &meta, &VoteConfig::default());
        tally.attempts(&candidates, &candidates[0].grid)
    });
}

#[divan::bench]
fn uncertainty_map(bencher: divan::Bencher) {
    let maps = maps(true);
    bencher.bench_local(|| uncertainty(black_box(&maps)));
}
