//! A checkpoint's `tokenizer.json`: text ↔ tokens, with the place of each token in the text.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::config::LlamaConfig;
use crate::arc::write_atomically;
use crate::text::tokenizer_json;

pub(super) const TOKENIZER: &str = "tokenizer.json";
const SETTINGS: &str = "tokenizer_config.json";

/// The tokens of the vocabulary that [`write_tokenizer`] writes: those of NVARC's format, a token a cell.
pub const GRID_VOCABULARY: [&str; 16] = [
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "7",
    "8",
    "9",
    "\n",
    "<|im_start|>",
    "<|im_end|>",
    "user",
    "assistant",
    "<|endoftext|>",
];

/// Why a tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file system refused.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A checkpoint without its tokenizer.
    #[error(
        "{path} is missing: a checkpoint's folder needs its tokenizer; transformers writes it by \
         `AutoTokenizer.from_pretrained(..).save_pretrained(folder)`",
        path = .path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file that is cut short or something else.
    #[error("{path} is no tokenizer ({reason}); copy or download it again", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the reader stumbled over.
        reason: String,
    },
    /// A text that comes back from its tokens as another.
    #[error("{path} has no tokens for {text:?}: it comes back as {found:?}", path = .path.display())]
    Lost {
        /// The file.
        path: PathBuf,
        /// The text.
        text: String,
        /// What its tokens spell.
        found: String,
    },
}

/// A text in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The tokens.
    pub ids: Vec<u32>,
    /// The bytes of the text that each of them stands for.
    pub offsets: Vec<(usize, usize)>,
}

/// A loaded tokenizer.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    path: PathBuf,
    inner: tokenizers::Tokenizer,
    /// The token that begins a text, as it is spelt; empty if there is none.
    pub bos: String,
    /// The token that ends a text, as it is spelt; empty if there is none.
    pub eos: String,
    /// Tokens of the model.
    vocab_size: usize,
}

impl Tokenizer {
    /// Reads the tokenizer in the folder of a checkpoint with that configuration.
    ///
    /// The tokens that begin and end a text are those of `tokenizer_config.json`; without that file, of `config.json`.
    ///
    /// # Errors
    /// [`TokenizerError`] if a file is missing or damaged.
    pub fn load(folder: &Path, config: &LlamaConfig) -> Result<Self, TokenizerError> {
        let path = folder.join(TOKENIZER);
        if !path.exists() {
            return Err(TokenizerError::Missing { path });
        }
        let bytes = read(&path)?;
        let damaged = |reason: String| TokenizerError::Damaged { path: path.clone(), reason };
        let mut inner =
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| damaged(e.to_string()))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| damaged(e.to_string()))?;
        let settings = folder.join(SETTINGS);
        let (bos, eos) = if settings.exists() {
            let damaged = |e: serde_json::Error| TokenizerError::Damaged {
                path: settings.clone(),
                reason: e.to_string(),
            };
            let fields: Value = serde_json::from_slice(&read(&settings)?).map_err(damaged)?;
            let named = |field: &str| {
                let value = &fields[field];
                value.as_str().or_else(|| value["content"].as_str()).unwrap_or_default().to_owned()
            };
            (named("bos_token"), named("eos_token"))
        } else {
            let spelt =
                |id: Option<u32>| id.and_then(|id| inner.id_to_token(id)).unwrap_or_default();
            (spelt(config.bos_token_id), spelt(config.eos_token_ids.first().copied()))
        };
        Ok(Self { path, inner, bos, eos, vocab_size: config.vocab_size })
    }

    /// The file that it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of tokens.
    pub fn n_tokens(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// A text in tokens; special tokens are recognized where the text spells them, and none are added.
    ///
    /// # Errors
    /// [`TokenizerError::Lost`] if the tokens do not spell the text, or the model has no such tokens.
    pub fn encode(&self, text: &str) -> Result<Tokens, TokenizerError> {
        let damaged = |reason: String| TokenizerError::Damaged { path: self.path.clone(), reason };
        let encoding = self.inner.encode(text, false).map_err(|e| damaged(e.to_string()))?;
        let ids = encoding.get_ids().to_vec();
        let known: Vec<u32> =
            ids.iter().copied().filter(|&id| (id as usize) < self.vocab_size).collect();
        let found = self.decode(&known);
        // Tokenizers in the manner of sentencepiece may put a space before each run of text between special tokens; their
        // decoders take it away where a text begins, and nowhere else.
        if found != text && self.decode_runs(&known) != text {
            let (path, text) = (self.path.clone(), text.to_owned());
            return Err(TokenizerError::Lost { path, text, found });
        }
        Ok(Tokens { ids, offsets: encoding.get_offsets().to_vec() })
    }

    /// What tokens spell, special ones included.
    pub fn decode(&self, tokens: &[u32]) -> String {
        match self.inner.get_decoder() {
            Some(_) => self.inner.decode(tokens, false).unwrap_or_default(),
            // Without a decoder the library would put spaces between the tokens.
            None => tokens.iter().filter_map(|&token| self.inner.id_to_token(token)).collect(),
        }
    }

    /// What tokens spell if each run between special ones is a text of its own.
    fn decode_runs(&self, tokens: &[u32]) -> String {
        let added = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        let is_one_run = |a: &u32, b: &u32| !added.contains_key(a) && !added.contains_key(b);
        tokens.chunk_by(is_one_run).map(|run| self.decode(run)).collect()
    }

    /// The token that is spelt like this, if the model has it.
    pub fn token(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text).filter(|&id| (id as usize) < self.vocab_size)
    }

    /// What each of the model's tokens spells behind `anchor`, which some token spells; empty where it is no token.
    pub fn pieces(&self, anchor: &str) -> Vec<String> {
        // Some tokenizers treat the first token of a text differently.
        let anchor = self.inner.encode(anchor, false).ok();
        let anchor: Vec<u32> = anchor.map(|a| a.get_ids().to_vec()).unwrap_or_default();
        let before = self.decode(&anchor);
        let ids: BTreeSet<u32> = self.inner.get_vocab(true).into_values().collect();
        let piece = |id: u32| {
            if !ids.contains(&id) {
                return String::new();
            }
            let both = self.decode(&[&anchor[..], &[id]].concat());
            both.strip_prefix(before.as_str()).map(str::to_owned).unwrap_or_default()
        };
        (0..self.vocab_size as u32).map(piece).collect()
    }

    /// Texts that are always tokens of their own, whatever stands around them, with those tokens.
    pub fn whole_tokens(&self) -> Vec<(String, u32)> {
        let added = self.inner.get_added_tokens_decoder().into_iter();
        let known = added.filter(|(id, _)| (*id as usize) < self.vocab_size);
        let mut tokens: Vec<_> = known.map(|(id, token)| (token.content, id)).collect();
        tokens.sort();
        tokens
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    std::fs::read(path).map_err(|source| TokenizerError::Io {
        action: "read",
        path: path.into(),
        source,
    })
}

/// Writes a tokenizer of [`GRID_VOCABULARY`] into a checkpoint's folder, for models that are trained from nothing.
/// `transformers` reads it too.
///
/// # Errors
/// [`TokenizerError::Io`].
pub fn write_tokenizer(folder: &Path) -> Result<(), TokenizerError> {
    let tokenizer = tokenizer_json(&GRID_VOCABULARY);
    let settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false,
        "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
    });
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| TokenizerError::Io { action: "write", path, source }
    };
    std::fs::create_dir_all(folder).map_err(io(folder))?;
    for (name, value) in [(TOKENIZER, tokenizer), (SETTINGS, settings)] {
        let path = folder.join(name);
        write_atomically(&path, format!("{value:#}\n").as_bytes()).map_err(io(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configuration of a model with so many tokens.
    fn config(vocab_size: usize) -> LlamaConfig {
        let text = json!({
            "architectures": ["LlamaForCausalLM"], "vocab_size": vocab_size, "hidden_size": 8,
            "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 1e4, "eos_token_id": 12,
        });
        LlamaConfig::parse(&text.to_string(), Path::new("config.json")).unwrap()
    }

    fn grid_tokenizer(vocab_size: usize) -> (tempfile::TempDir, Tokenizer) {
        let folder = tempfile::tempdir().unwrap();
        write_tokenizer(folder.path()).unwrap();
        let tokenizer = Tokenizer::load(folder.path(), &config(vocab_size)).unwrap();
        (folder, tokenizer)
    }

    #[test]
    fn the_written_tokenizer_has_a_token_a_cell_and_each_knows_its_place() {
        let (_folder, tokenizer) = grid_tokenizer(16);
        let text = "<|im_start|>user\n01\n29<|im_end|>";
        let tokens = tokenizer.encode(text).unwrap();
        assert_eq!(tokens.ids, [11, 13, 10, 0, 1, 10, 2, 9, 12]);
        for (id, &(from, to)) in tokens.ids.iter().zip(&tokens.offsets) {
            assert_eq!(&text[from..to], GRID_VOCABULARY[*id as usize]);
        }
        assert_eq!(tokenizer.decode(&tokens.ids), text);
        assert_eq!(tokenizer.pieces("0"), GRID_VOCABULARY);
        assert_eq!((tokenizer.bos.as_str(), tokenizer.eos.as_str()), ("", "<|im_end|>"));
    }

    #[test]
    fn texts_that_tokens_cannot_spell_are_refused() {
        let (_folder, tokenizer) = grid_tokenizer(16);
        let error = tokenizer.encode("0a1").unwrap_err().to_string();
        assert!(error.contains("no tokens for \"0a1\": it comes back as \"01\""), "{error}");
        // The model has fewer tokens than the tokenizer.
        let (_folder, small) = grid_tokenizer(12);
        small.encode("01\n").unwrap();
        small.encode("0<|im_end|>").unwrap_err();
        assert_eq!((small.token("<|im_start|>"), small.token("<|im_end|>")), (Some(11), None));
        assert_eq!(small.pieces("0"), GRID_VOCABULARY[..12]);
    }

    #[test]
    fn missing_and_damaged_files_are_named_with_the_mend() {
        let folder = tempfile::tempdir().unwrap();
        let error = || Tokenizer::load(folder.path(), &config(16)).unwrap_err().to_string();
        assert!(
            error().contains("tokenizer.json is missing") && error().contains("save_pretrained")
        );
        std::fs::write(folder.path().join(TOKENIZER), "{\"model\": 3").unwrap();
        assert!(error().contains("is no tokenizer"), "{}", error());
        write_tokenizer(folder.path()).unwrap();
        std::fs::write(folder.path().join(SETTINGS), "{").unwrap();
        assert!(error().contains(SETTINGS), "{}", error());
        // Without the settings, the configuration names the tokens.
        std::fs::remove_file(folder.path().join(SETTINGS)).unwrap();
        assert_eq!(Tokenizer::load(folder.path(), &config(16)).unwrap().eos, "<|im_end|>");
    }
}
