//! Which module may use which: the data flow runs one way, in the order of src/lib.rs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Uses that go against the order of `pub mod` in src/lib.rs, each with its reason: `(from, to)`.
const EXCEPTIONS: [(&str, &str); 0] = [];

/// Modules that know no tensors.
const WITHOUT_BURN: [&str; 19] = [
    "memory",
    "rng",
    "arc",
    "synth",
    "public",
    "contamination",
    "dataset",
    "text",
    "candidate",
    "vote",
    "adapter",
    "evaluate",
    "effort",
    "recipe",
    "pipeline",
    "run",
    "compare",
    "render",
    "report",
];

/// What a module of the program itself, not of its tests, uses.
struct Source {
    path: PathBuf,
    module: String,
    text: String,
}

/// All source files without comments and without tests, by name.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut paths, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let texts: Vec<(PathBuf, String)> =
        paths.into_iter().map(|p| (p.clone(), fs::read_to_string(p).unwrap())).collect();
    let of_tests: BTreeSet<PathBuf> =
        texts.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    let kept = texts.into_iter().filter(|(path, _)| !of_tests.contains(path));
    kept.map(|(path, text)| {
        let path = path.strip_prefix(&root).unwrap().to_owned();
        let first = path.iter().next().unwrap().to_str().unwrap();
        let module = first.strip_suffix(".rs").unwrap_or(first).to_owned();
        Source { path, module, text: without_tests(&text) }
    })
    .collect()
}

fn is_test_attribute(line: &str) -> bool {
    line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test")
}

/// Files of modules that are declared for tests alone.
fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let folder = match path.file_stem().and_then(|s| s.to_str()) {
        Some("mod" | "lib" | "main") => path.parent().unwrap().to_owned(),
        _ => path.with_extension(""),
    };
    let lines: Vec<&str> = text.lines().collect();
    let declared = lines.windows(2).filter(|pair| is_test_attribute(pair[0]));
    let names = declared.filter_map(|pair| pair[1].trim().strip_suffix(';')?.split("mod ").nth(1));
    names.map(|name| folder.join(name).with_extension("rs")).collect()
}

/// The text up to the unit tests at its foot, comments left out.
fn without_tests(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines
        .windows(2)
        .position(|pair| is_test_attribute(pair[0]) && pair[1].starts_with("mod tests {"));
    let code = &lines[..tests.unwrap_or(lines.len())];
    code.iter().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The names that follow `prefix`.
fn names_after<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(prefix).skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

/// The modules in the order of the data flow, as the library declares them.
fn order() -> Vec<&'static str> {
    names_after(include_str!("../../src/lib.rs"), "\npub mod ").collect()
}

#[test]
fn modules_use_only_those_before_them() {
    let order = order();
    let place = |module: &str| order.iter().position(|&m| m == module);
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for source in sources() {
        let from = source.module.as_str();
        if ["lib", "main"].contains(&from) {
            continue;
        }
        for to in names_after(&source.text, "crate::").filter(|&to| to != from) {
            used.insert((from.to_owned(), to.to_owned()));
            let allowed = place(to).is_some() && place(to) < place(from);
            if !allowed && !EXCEPTIONS.contains(&(from, to)) {
                wrong.push(format!("src/{} uses crate::{to}", source.path.display()));
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "against the order in src/lib.rs:\n{}", wrong.join("\n"));
    // If nothing is found, the search is broken and not the code in order.
    assert!(used.contains(&("engine".to_owned(), "model".to_owned())));
    assert!(used.contains(&("cli".to_owned(), "arc".to_owned())));
    for (from, to) in EXCEPTIONS {
        assert!(used.contains(&(from.to_owned(), to.to_owned())), "{from} no longer uses {to}");
    }
}

#[test]
fn most_modules_know_no_tensors_and_one_module_names_the_backends() {
    for source in sources() {
        let (path, module) = (source.path.display(), source.module.as_str());
        let burn = source.text.contains("burn::");
        assert!(!(burn && WITHOUT_BURN.contains(&module)), "src/{path} uses Burn");
        for backend in ["Device::flex", "Device::wgpu", "Device::cuda", "Device::default"] {
            let names = source.text.contains(backend);
            assert!(!names || module == "device", "src/{path} names a backend: {backend}");
        }
    }
}

#[test]
fn only_the_command_line_prints() {
    for source in sources() {
        for print in ["println!(", "print!(", "dbg!(", "process::exit("] {
            let prints = source.text.contains(print);
            let path = source.path.display();
            assert!(!prints || source.module == "cli", "src/{path} holds {print}");
        }
    }
}
