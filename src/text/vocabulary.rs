//! One token a character: tokenizers for models that are trained from nothing.

use serde_json::{Map, Value, json};

use super::{SpecialTokens, TextFormat};

const PAD: &str = "<pad>";
const BOS: &str = "<s>";
const EOS: &str = "</s>";

/// Three special tokens, then every character that a format can write, in the order of the format's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CharVocabulary {
    tokens: Vec<String>,
}

impl CharVocabulary {
    /// Number of the token that fills up; nothing reads it.
    pub const PAD: u32 = 0;
    /// Number of the token that begins a text.
    pub const BOS: u32 = 1;
    /// Number of the token that ends an answer.
    pub const EOS: u32 = 2;

    /// The vocabulary of a format.
    pub fn of(format: &TextFormat) -> Self {
        let grid = &format.grid;
        let mut texts = vec![format.prologue.as_str()];
        texts.extend(grid.cells.iter().map(String::as_str));
        texts.extend(
            [&grid.between_cells, &grid.between_rows, &grid.open, &grid.close].map(|t| &**t),
        );
        for pair in [&format.demonstration, &format.query] {
            texts.extend([&pair.before, &pair.between, &pair.end, &pair.separator].map(|t| &**t));
        }
        let mut tokens: Vec<String> = [PAD, BOS, EOS].map(str::to_owned).to_vec();
        // A demonstration's number may have any digit.
        let numbered = texts.iter().any(|text| text.contains("{number}"));
        let digits = if numbered { "0123456789" } else { "" };
        let plain = |text: &str| {
            ["{bos}", "{eos}", "{number}"]
                .iter()
                .fold(text.to_owned(), |t, part| t.replace(part, ""))
        };
        for c in texts.into_iter().map(plain).chain([digits.to_owned()]).collect::<String>().chars()
        {
            if !tokens.iter().any(|token| token.chars().eq([c])) {
                tokens.push(c.to_string());
            }
        }
        Self { tokens }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Never: there are always the special tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// How the special tokens are spelled.
    pub fn special(&self) -> SpecialTokens {
        SpecialTokens { bos: BOS.into(), eos: EOS.into() }
    }

    /// The tokens of a text, each with its first and last byte, the latter exclusive; `None` if a character has none.
    pub fn encode(&self, text: &str) -> Option<Vec<(u32, (usize, usize))>> {
        let mut encoded = Vec::with_capacity(text.len());
        let mut at = 0;
        while at < text.len() {
            // The special tokens come first in the list and are no characters.
            let token =
                self.tokens.iter().position(|token| text[at..].starts_with(token.as_str()))?;
            let end = at + self.tokens[token].len();
            encoded.push((token as u32, (at, end)));
            at = end;
        }
        Some(encoded)
    }

    /// Files that `AutoTokenizer` of transformers reads beside a checkpoint for at most `max_length` tokens: names and
    /// contents.
    pub fn files(&self, max_length: usize) -> Vec<(&'static str, Value)> {
        let tokens: Vec<&str> = self.tokens.iter().map(String::as_str).collect();
        let names = json!({"bos_token": BOS, "eos_token": EOS, "pad_token": PAD});
        let mut config = names.clone();
        config["tokenizer_class"] = "PreTrainedTokenizerFast".into();
        config["model_max_length"] = max_length.into();
        config["clean_up_tokenization_spaces"] = false.into();
        vec![
            ("tokenizer.json", tokenizer_json(&tokens)),
            ("tokenizer_config.json", config),
            ("special_tokens_map.json", names),
        ]
    }
}

/// A `tokenizer.json` of these tokens, numbered in their order, most of which are characters. The longer ones are found
/// first; those that begin with `<` are special.
pub fn tokenizer_json(tokens: &[&str]) -> Value {
    let vocab: Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
    let longer = tokens.iter().enumerate().filter(|(_, token)| token.chars().count() > 1);
    let added: Vec<Value> = longer
        .map(|(id, token)| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": token.starts_with('<'),
            })
        })
        .collect();
    // Byte-pair encoding without a pair: nothing is ever merged.
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": vocab, "merges": [],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::Grid;

    #[test]
    fn every_character_of_a_written_task_is_a_token_and_the_text_comes_back() {
        for (name, n) in [("compact", 16), ("architects", 68)] {
            let format = TextFormat::built_in(name).unwrap();
            let vocabulary = CharVocabulary::of(&format);
            let grid = Grid::from_fn(3, 4, |r, c| ((4 * r + c) % 10) as u8);
            let written = format.write(&[], &grid, Some(&grid), &vocabulary.special());
            let encoded = vocabulary.encode(&written.text).unwrap();
            let text: String =
                encoded.iter().map(|(id, _)| vocabulary.tokens[*id as usize].as_str()).collect();
            assert_eq!(text, written.text);
            assert_eq!(encoded.last().unwrap().0, CharVocabulary::EOS, "{name}");
            assert_eq!(vocabulary.len(), n, "{name}");
            assert_eq!(vocabulary.encode("?"), None);
        }
    }
}
