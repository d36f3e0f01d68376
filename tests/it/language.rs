//! Language models through the command line: tiny random checkpoints, from solve to report.

use std::fs;
use std::path::{Path, PathBuf};

use arc_ttt::llama::write_tokenizer;
use safetensors::tensor::{SafeTensors, TensorView};
use serde_json::{Value, json};

use super::common::{Place, is_valid_submission};

/// A checkpoint of the goldens, with room for tasks and a tokenizer of 16 tokens, in the place as `name`.
fn checkpoint(place: &Place, golden: &str, name: &str) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(golden);
    let to = place.path(name);
    fs::create_dir(&to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        if file.starts_with("model") {
            fs::copy(&path, to.join(file)).unwrap();
        } else if file == "config.json" {
            let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            config["max_position_embeddings"] = json!(1024);
            fs::write(to.join(file), config.to_string()).unwrap();
        }
    }
    write_tokenizer(&to).unwrap();
    to
}

/// Options under which a tiny model learns where a row ends, in a few seconds.
const QUICK: [&str; 12] = [
    "--steps",
    "30",
    "--set",
    "views.count=4",
    "--set",
    "fit.learning_rate=2e-2",
    "--set",
    "lora.rank=8",
    "--set",
    "lora.target_modules=q_proj,v_proj,o_proj,up_proj,down_proj,embed_tokens,lm_head",
    "--set",
    "decode.max_nodes=200",
];

fn records(place: &Place, run: &str) -> Vec<Value> {
    let text = place.read(&format!("{run}/records.jsonl"));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_language_model_solves_with_lora_search_and_product_of_experts() {
    let place = Place::new(&["a", "b"]);
    checkpoint(&place, "qwen3", "model");
    let solve = |out: &str, more: &[&str]| {
        let args = ["solve", "tasks", "--model", "model", "--recipe", "default", "--out", out];
        let args = [&args[..], &QUICK[..], more].concat();
        place.arc(&args).assert().success();
        place.read(&format!("{out}/submission.json"))
    };
    let first = solve("one", &["--jobs", "1", "--threads", "1"]);
    assert!(is_valid_submission(&place.path("one/submission.json"), &["a", "b"]));
    for record in records(&place, "one") {
        assert_eq!((&record["steps"], &record["views"]), (&json!(30), &json!(4)), "{record}");
        assert_eq!(record["failed"], Value::Null);
        let losses: Vec<f64> = record["curve"]["loss"]
            .as_array()
            .unwrap()
            .iter()
            .map(|l| l.as_f64().unwrap())
            .collect();
        assert!(losses[29] < losses[0] / 1.5, "{losses:?}");
        let test = &record["tests"][0];
        let candidates = test["candidates"].as_array().unwrap();
        assert!(!candidates.is_empty());
        for candidate in candidates {
            let scores = candidate["log_probs"].as_array().unwrap();
            assert_eq!(scores.len(), 4, "each candidate is scored under each view");
            assert!(scores.iter().all(|s| s.as_f64().unwrap() < 0.0));
        }
    }
    assert_eq!(solve("two", &["--jobs", "2", "--threads", "2"]), first);
}

#[test]
fn fresh_views_score_candidates_and_are_resumed_reported_and_compared() {
    let place = Place::new(&["a", "b"]);
    checkpoint(&place, "llama", "model");
    // More views than are predicted at once, so that the later ones have a guess.
    let fresh = ["--set", "candidates.fresh_views=3", "--set", "views.count=10"];
    let solve = |out: &str, more: &[&str]| {
        let args = with_model(&["solve", "tasks", "--out", out], &[&fresh[..], more].concat());
        place.arc(&args).assert().success();
        let mut records = records(&place, out);
        records.sort_by_key(|record| record["task"].to_string());
        (place.read(&format!("{out}/submission.json")), records)
    };
    let (submission, one) = solve("one", &["--jobs", "1", "--threads", "1"]);
    for record in &one {
        let metas = |field: &str| record[field].as_array().unwrap().clone();
        let (maps, experts) = (metas("maps"), metas("experts"));
        assert_eq!((maps.len(), experts.len()), (10, 3), "{record}");
        assert!(experts.iter().all(|expert| !maps.contains(expert)), "{record}");
        for candidate in record["tests"][0]["candidates"].as_array().unwrap() {
            let scores = candidate["log_probs"].as_array().unwrap();
            assert!(scores.len() == 3 && scores.iter().all(|s| s.as_f64().unwrap() < 0.0));
        }
    }
    let (again, two) = solve("two", &["--jobs", "2", "--threads", "2"]);
    assert_eq!(again, submission);
    for (a, b) in one.iter().zip(&two) {
        assert_eq!(a["tests"], b["tests"]);
    }
    let replay = ["solve", "tasks", "--replay", "one", "--out", "again", "--model", "model"];
    place.arc(&replay).assert().success();
    assert_eq!(place.read("again/submission.json"), submission);
    place.arc(&["report", "one", "two", "--output", "report.html"]).assert().success();
    assert!(place.read("report.html").contains("scored under 3 fresh views"));
    let compared = with_model(&["compare", "selectors", "tasks", "--out", "compared"], &fresh);
    let (table, code) = place.json(&compared);
    assert_eq!(code, 0, "{table}");
}

#[test]
fn a_vocabulary_without_the_tokens_that_no_text_needs_writes_the_same_answers() {
    let place = Place::new(&["a"]);
    let full = checkpoint(&place, "qwen3", "full");
    let pruned = checkpoint(&place, "qwen3", "pruned");
    // The tokenizer has 16 of the 20 tokens.
    let bytes = fs::read(full.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let views = file.iter().map(|(name, view)| match name {
        "model.embed_tokens.weight" => {
            let [rows, width] = view.shape() else { panic!("a matrix") };
            let kept = &view.data()[..view.data().len() / rows * 16];
            (name, TensorView::new(view.dtype(), vec![16, *width], kept).unwrap())
        }
        _ => (name, view),
    });
    fs::write(pruned.join("model.safetensors"), safetensors::serialize(views, None).unwrap())
        .unwrap();
    edit_json(&pruned.join("config.json"), |c| c["vocab_size"] = json!(16));
    let answers = |model: &str| {
        let out = format!("{model}-run");
        let args = ["solve", "tasks", "--model", model, "--recipe", "default", "--out", &out];
        let settings =
            ["--set", "fit.format=none", "--set", "decode.method=greedy", "--set", "views.count=4"];
        place.arc(&[&args[..], &settings].concat()).assert().success();
        let record = records(&place, &out).remove(0);
        let candidates = record["tests"][0]["candidates"].as_array().unwrap().clone();
        assert!(!candidates.is_empty(), "{record}");
        let found = |c: &Value| (c["grid"].to_string(), c["proposed_by"].to_string());
        let likely = |c: &Value| c["log_probs"][0].as_f64().unwrap();
        let scores: Vec<f64> = candidates.iter().map(likely).collect();
        (candidates.iter().map(found).collect::<std::collections::BTreeSet<_>>(), scores)
    };
    let (full, pruned) = (answers("full"), answers("pruned"));
    assert_eq!(full.0, pruned.0);
    // What the four tokens had is shared out.
    assert_ne!(full.1, pruned.1);
}

/// The error of a command that is refused.
fn refusal(place: &Place, args: &[&str]) -> String {
    let output = place.arc(args).env("HF_HUB_CACHE", place.path("hub")).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

fn edit_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

#[test]
fn checkpoints_that_cannot_be_used_say_why() {
    let place = Place::new(&["a"]);
    let check = |name: &str, golden: &str, damage: &dyn Fn(&Path), expected: &str| {
        let folder = checkpoint(&place, golden, name);
        damage(&folder);
        let error = refusal(&place, &["solve", "tasks", "--model", name]);
        assert!(error.contains(expected), "{name}: {error}");
        assert!(!place.path("runs").exists(), "nothing is begun");
    };
    let shard = "model-00003-of-00005.safetensors";
    let missing = format!("{shard} is missing, but model.safetensors.index.json names it");
    check("missing", "mistral-nemo", &|f| fs::remove_file(f.join(shard)).unwrap(), &missing);
    let cut = |folder: &Path| {
        let bytes = fs::read(folder.join(shard)).unwrap();
        fs::write(folder.join(shard), &bytes[..bytes.len() - 9]).unwrap();
    };
    check("cut", "mistral-nemo", &cut, "is not a whole safetensors file");
    let config = |field: &'static str, value: Value| {
        move |folder: &Path| edit_json(&folder.join("config.json"), |c| c[field] = value.clone())
    };
    let gpt = config("architectures", json!(["GPT2LMHeadModel"]));
    check("architecture", "qwen3", &gpt, "`GPT2LMHeadModel`, which is not supported");
    check("shape", "qwen3", &config("intermediate_size", json!(8)), "but config.json asks for");
    let no_config = |f: &Path| fs::remove_file(f.join("config.json")).unwrap();
    check("no-config", "qwen3", &no_config, "a checkpoint is a folder with config.json");
    let no_tokenizer = |f: &Path| fs::remove_file(f.join("tokenizer.json")).unwrap();
    check("no-tokenizer", "qwen3", &no_tokenizer, "tokenizer.json is missing");
    let without = |token: &'static str| {
        move |folder: &Path| {
            edit_json(&folder.join("tokenizer.json"), |tokenizer| {
                tokenizer["model"]["vocab"].as_object_mut().unwrap().remove(token);
                let added = tokenizer["added_tokens"].as_array_mut().unwrap();
                added.retain(|added| added["content"] != token);
            });
        }
    };
    check(
        "no-row",
        "qwen3",
        &without("\n"),
        "nvarc: the text format `nvarc` writes what stands between rows",
    );
    check(
        "no-seven",
        "qwen3",
        &without("7"),
        "nvarc: the text format `nvarc` writes color 7 as \"7\"",
    );
    check(
        "no-end",
        "qwen3",
        &without("<|im_end|>"),
        "nvarc: the text format `nvarc` needs the special token <|im_end|>",
    );
    checkpoint(&place, "qwen3", "fine");
    let error = refusal(
        &place,
        &["solve", "tasks", "--model", "fine", "--set", "language.text_format=architects"],
    );
    assert!(error.contains("needs the special token {bos}"), "{error}");
}

#[test]
fn models_recipes_and_adapters_that_do_not_belong_together_are_refused() {
    let place = Place::new(&["a"]);
    checkpoint(&place, "qwen3", "model");
    place.write("grid.toml", "extends = \"fast\"");
    let error = refusal(&place, &["solve", "tasks", "--model", "model", "--recipe", "grid.toml"]);
    assert!(
        error.contains("the recipe grid is not for model, which is a language model"),
        "{error}"
    );
    let error = refusal(&place, &["solve", "tasks", "--recipe", "llama-poe"]);
    assert!(
        error.contains("the recipe llama-poe is not for default, which is a grid model"),
        "{error}"
    );
    place
        .arc(&["fit", "tasks", "--steps", "1", "--out", "grid-adapter", "--recipe", "fast"])
        .assert()
        .success();
    let error =
        refusal(&place, &["predict", "tasks", "--model", "model", "--adapter", "grid-adapter"]);
    assert!(error.contains("the adapter was fitted on the base model"), "{error}");
}

#[test]
fn a_model_of_the_hub_is_looked_for_in_the_cache_and_the_network() {
    let place = Place::new(&["a"]);
    let repository = place.path("hub/models--me--tiny");
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::create_dir_all(repository.join("snapshots")).unwrap();
    fs::write(repository.join("refs/main"), "abc123").unwrap();
    checkpoint(&place, "qwen3", "hub/models--me--tiny/snapshots/abc123");
    let doctor = |model: &str| {
        let args = ["doctor", "--json", "--model", model];
        let mut command = place.arc(&args);
        command.env("HF_HUB_CACHE", place.path("hub")).env("HF_ENDPOINT", "http://127.0.0.1:1");
        let output = command.output().unwrap();
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        object["model"].clone()
    };
    let found = doctor("me/tiny");
    assert_eq!(found["problem"], json!(false), "{found}");
    assert!(found["says"].as_str().unwrap().starts_with("Qwen3, "), "{found}");
    // Its weights are not read.
    let weights = place.path("hub/models--me--tiny/snapshots/abc123/model.safetensors");
    fs::remove_file(weights).unwrap();
    assert_eq!(doctor("me/tiny"), found);
    let other = doctor("me/other");
    assert_eq!(other["problem"], json!(true), "{other}");
    assert!(other["says"].as_str().unwrap().contains("give the folder of a downloaded checkpoint"));
}

/// The arguments of a quick command with the tiny model.
fn with_model<'a>(command: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [command, &["--model", "model", "--recipe", "default"], &QUICK, more].concat()
}

#[test]
fn a_run_of_a_language_model_resumes_replays_and_is_reported() {
    let place = Place::new(&["a", "b", "c"]);
    checkpoint(&place, "llama", "model");
    let solve = |out: &str, more: &[&str]| {
        let args = with_model(&["solve", "tasks", "--out", out], more);
        place.arc(&args).assert().success();
        place.read(&format!("{out}/submission.json"))
    };
    let whole = solve("whole", &["--jobs", "1"]);
    // Killed after its first record, a run goes on.
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("arc-ttt"))
        .args(with_model(&["solve", "tasks", "--out", "killed", "--jobs", "1"], &[]))
        .current_dir(place.path(""))
        .env("ARC_TTT_DATA", place.path("data"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let has_record =
        || fs::read_to_string(place.path("killed/records.jsonl")).is_ok_and(|t| t.contains('\n'));
    while !has_record() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_valid_submission(&place.path("killed/submission.json"), &["a", "b", "c"]));
    assert_eq!(solve("killed", &["--jobs", "1"]), whole);

    // With a clock: whatever was done in the time is done again.
    let timed = [
        "--budget",
        "1.5s",
        "--set",
        "fit.steps=100000",
        "--set",
        "decode.threshold=1e-9",
        "--set",
        "decode.max_nodes=1000000",
    ];
    let args = [
        "solve", "tasks", "--model", "model", "--recipe", "default", "--out", "timed", "--jobs",
        "1",
    ];
    let args = [&args[..], &QUICK[2..], &timed].concat();
    place.arc(&args).assert().success();
    let timed = place.read("timed/submission.json");
    let args = [
        "solve", "--replay", "timed", "--out", "again", "--model", "model", "--jobs", "1", "tasks",
    ];
    place.arc(&args).assert().success();
    assert_eq!(place.read("again/submission.json"), timed);
    for (first, again) in records(&place, "timed").iter().zip(records(&place, "again")) {
        assert_eq!(first["tests"], again["tests"]);
        assert_eq!(first["steps"], again["steps"]);
    }

    place.arc(&["report", "whole", "killed", "--output", "report.html"]).assert().success();
    let page = place.read("report.html");
    assert!(page.contains("every one with a probability above") && page.contains("q_proj"));
}

#[test]
fn a_text_format_of_the_user_s_is_kept_by_the_run() {
    let place = Place::new(&["a"]);
    checkpoint(&place, "qwen3", "model");
    let nvarc = include_str!("../../data/formats/nvarc.toml");
    let mine = nvarc.replace("\"nvarc\"", "\"mine\"").replace("<|im_end|><|im_start|>", "");
    place.write("mine.toml", &mine);
    let format = ["--set", "language.text_format=mine.toml"];
    let solve = |out: &'static str| with_model(&["solve", "tasks", "--out", out], &format);
    place.arc(&solve("run")).assert().success();
    let first = place.read("run/submission.json");
    let built_in = with_model(&["solve", "tasks", "--out", "nvarc"], &[]);
    place.arc(&built_in).assert().success();
    let losses = |run: &str| records(&place, run)[0]["curve"]["loss"].clone();
    assert_ne!(losses("run"), losses("nvarc"), "the model has read other texts");
    // The same command with another content of the file is another run.
    place.write("mine.toml", &mine.replace("user\\n", "user"));
    let error = refusal(&place, &solve("run"));
    assert!(error.contains("language.text_format.query.before"), "{error}");
    // A repetition needs no file.
    fs::remove_file(place.path("mine.toml")).unwrap();
    let again = ["solve", "tasks", "--replay", "run", "--out", "again", "--model", "model"];
    place.arc(&again).assert().success();
    assert_eq!(place.read("again/submission.json"), first);
    let error = refusal(&place, &solve("other"));
    assert!(error.contains("cannot read the text format mine.toml"), "{error}");
    place.write("mine.toml", &mine.replace("user\\n", "human"));
    let error = refusal(&place, &solve("other"));
    let expected = "the text format `mine` writes the beginning of a demonstration";
    assert!(error.contains(expected) && error.contains("FILE.toml"), "{error}");
    place.arc(&["report", "run", "--output", "report.html"]).assert().success();
    assert!(place.read("report.html").contains("in the format mine"));
}

fn predict<'a>(model: &'a str, adapter: &'a str) -> Vec<&'a str> {
    let args = ["predict", "tasks", "--recipe", "default", "--adapter", adapter, "--model", model];
    [&args[..], &QUICK[2..]].concat()
}

#[test]
fn adapters_are_fitted_kept_and_predicted_with_and_peft_s_own_are_read() {
    let place = Place::new(&["a"]);
    checkpoint(&place, "qwen3", "model");
    checkpoint(&place, "llama", "other");
    let (fitted, code) = place.json(&with_model(&["fit", "tasks", "--out", "adapter"], &[]));
    assert_eq!((code, &fitted["steps"]), (0, &json!(30)), "{fitted}");
    let config: Value = serde_json::from_str(&place.read("adapter/adapter_config.json")).unwrap();
    assert_eq!((&config["task_type"], &config["r"]), (&json!("CAUSAL_LM"), &json!(8)));
    assert_eq!(config["base_model_name_or_path"], "model");
    let (predicted, code) = place.json(&predict("model", "adapter"));
    assert_eq!(code, 0, "{predicted}");
    assert_eq!(predicted["attempts"]["a"][0]["attempt_1"], fitted["attempts"][0][0]);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/qwen3/adapter");
    let (own, code) = place.json(&predict("model", golden.to_str().unwrap()));
    assert_eq!((code, &own["failed"]), (0, &json!(0)), "{own}");
    // PEFT's adapter says that its base is called `qwen3`, and knows no more of it.
    let doubt = own["notes"][0].as_str().unwrap();
    assert!(doubt.contains("names qwen3 as its base model, and this is model"), "{own}");
    fs::rename(place.path("model"), place.path("Qwen3")).unwrap();
    let (own, code) = place.json(&predict("Qwen3", golden.to_str().unwrap()));
    assert_eq!((code, &own["notes"]), (0, &json!([])), "{own}");
    // One of ours knows the weights: the same under another name are its base, others of the same sizes are not.
    assert_eq!(place.json(&predict("Qwen3", "adapter")).1, 0);
    checkpoint(&place, "qwen3", "changed");
    let path = place.path("changed/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
    let error = refusal(&place, &predict("changed", "adapter"));
    assert!(error.contains("the adapter was fitted on the base model"), "{error}");
    let error = refusal(&place, &predict("other", "adapter"));
    assert!(error.contains("the adapter was fitted on the base model"), "{error}");
    let output = place.arc(&predict("other", golden.to_str().unwrap())).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("the adapter's tensor") && error.contains("the model needs"), "{error}");
}

#[test]
fn tasks_longer_than_the_context_lose_demonstrations_and_say_so() {
    let place = Place::new(&["a"]);
    let folder = checkpoint(&place, "qwen3", "model");
    // A pair of three by three cells has 30 tokens.
    edit_json(&folder.join("config.json"), |c| c["max_position_embeddings"] = json!(80));
    place.arc(&with_model(&["solve", "tasks", "--out", "run"], &[])).assert().success();
    let notes = records(&place, "run")[0]["notes"].to_string();
    assert!(notes.contains("demonstrations left out of a prompt, the longest first"), "{notes}");
    assert!(notes.contains("have more than 80 tokens"), "{notes}");
    edit_json(&folder.join("config.json"), |c| c["max_position_embeddings"] = json!(10));
    let output =
        place.arc(&with_model(&["solve", "tasks", "--out", "short"], &[])).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let record = &records(&place, "short")[0];
    assert!(record["failed"].as_str().unwrap().contains("more than the 10 that fit"), "{record}");
    assert!(is_valid_submission(&place.path("short/submission.json"), &["a"]));
}

#[test]
fn fits_stay_within_the_memory_or_say_what_they_leave_out() {
    let place = Place::new(&["a"]);
    checkpoint(&place, "qwen3", "model");
    let solve = |out: &'static str, memory: &'static str| {
        let more = ["--memory", memory, "--set", "language.gradient_checkpointing=false"];
        let output = place.arc(&with_model(&["solve", "tasks", "--out", out], &more)).output();
        let record = records(&place, out).remove(0);
        (output.unwrap().status.code().unwrap(), record)
    };
    let (code, wide) = solve("wide", "1G");
    assert_eq!((code, &wide["notes"]), (0, &Value::Null), "{wide}");
    // A sequence of 90 tokens takes 338 KiB alone, and 405 KiB if all activations are kept.
    let (code, narrow) = solve("narrow", "370K");
    assert_eq!(code, 0, "{narrow}");
    let notes = narrow["notes"].to_string();
    assert!(notes.contains("gradient checkpointing is on for"), "{notes}");
    let loss = |record: &Value, step: usize| record["curve"]["loss"][step].as_f64().unwrap();
    let (one, other) = (loss(&wide, 0), loss(&narrow, 0));
    assert!((one - other).abs() < 1e-4 * one, "{one} and {other}");
    let (code, least) = solve("least", "10K");
    assert_eq!(code, 1, "{least}");
    let reason = least["failed"].as_str().unwrap();
    assert!(reason.contains("bytes") && reason.contains("raise --memory"), "{reason}");
    assert!(is_valid_submission(&place.path("least/submission.json"), &["a"]));
}

#[test]
fn the_baseline_and_both_formats_of_a_language_model_are_compared() {
    let place = Place::new(&["a"]);
    checkpoint(&place, "mistral-nemo", "model");
    for method in ["sample", "beam"] {
        let setting = format!("decode.method={method}");
        let args =
            with_model(&["compare", "formats", "tasks", "--out", method], &["--set", &setting]);
        let (table, code) = place.json(&args);
        assert_eq!(code, 0, "{table}");
        assert_eq!(table["rows"].as_array().unwrap().len(), 4);
        assert!(place.read(&format!("{method}/formats.md")).contains("TTT, end-to-end"));
    }
}

#[test]
fn beams_and_draws_keep_to_their_time_and_beams_to_their_memory_and_say_so() {
    let place = Place::new(&["a"]);
    checkpoint(&place, "qwen3", "model");
    let solve = |out: &str, more: &[&str]| {
        let args = ["solve", "tasks", "--model", "model", "--recipe", "default", "--out", out];
        let args = [&args[..], &QUICK[..10], &["--set", "fit.format=none"], more].concat();
        place.arc(&args).assert().success();
        records(&place, out).remove(0)
    };
    let reasons = |record: &Value| -> Vec<String> {
        let cut = record["tests"][0]["cut"].as_array().cloned().unwrap_or_default();
        cut.iter().map(|cut| cut["reason"].as_str().unwrap().to_owned()).collect()
    };
    let beam = ["--set", "decode.method=beam", "--set", "decode.beams=8"];
    let wide = solve("wide", &beam);
    assert!(!reasons(&wide).contains(&"memory".to_owned()), "{wide}");
    // Sixteen copies of a prompt of 120 tokens are more than this holds.
    let narrow = solve("narrow", &[&beam[..], &["--memory", "1M"]].concat());
    assert!(reasons(&narrow).contains(&"memory".to_owned()), "{narrow}");
    for (method, more) in [("sample", "decode.samples=100000"), ("beam", "decode.beams=500")] {
        let setting = format!("decode.method={method}");
        let more = ["--budget", "2s", "--set", &setting, "--set", more, "--memory", "1G"];
        let timed = solve(method, &[&more[..], &["--set", "decode.max_nodes=100000000"]].concat());
        assert!(reasons(&timed).contains(&"time".to_owned()), "{method}: {timed}");
        assert!(timed["seconds"]["total"].as_f64().unwrap() < 20.0, "{method}: {timed}");
        let out = format!("{method}-again");
        let args = ["solve", "tasks", "--replay", method, "--out", &out, "--model", "model"];
        place.arc(&args).assert().success();
        assert_eq!(records(&place, &out)[0]["tests"], timed["tests"], "{method}");
    }
}
