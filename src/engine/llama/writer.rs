//! Tasks in the tokens of one checkpoint: a text format and a tokenizer that fit each other.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::arc::{Example, Grid, N_COLORS};
use crate::dataset::Episode;
use crate::llama::{Sequence, TokenFilter, Tokenizer, TokenizerError};
use crate::text::{
    AUTO, Beginning, CharVocabulary, FormatChoice, Grammar, SpecialTokens, TextFormat,
    target_tokens,
};

/// Why tasks cannot be written for a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A text that the tokenizer cannot spell.
    #[error(
        "the text format `{format}` writes {what} as {text:?}, for which {path} has no tokens; take a format that the \
         model was trained on, by --set language.text_format=NAME or FILE.toml",
        path = .path.display()
    )]
    Unwritable {
        /// The format.
        format: String,
        /// What is written.
        what: String,
        /// How.
        text: String,
        /// The tokenizer.
        path: PathBuf,
    },
    /// A token of the format's own that the tokenizer does not have.
    #[error(
        "the text format `{format}` needs the special token {token}, which {path} does not have; take a format that the \
         model was trained on, by --set language.text_format=NAME or FILE.toml",
        path = .path.display()
    )]
    Special {
        /// The format.
        format: String,
        /// The token.
        token: String,
        /// The tokenizer.
        path: PathBuf,
    },
    /// A prompt whose last token reaches into the answer.
    #[error(
        "the text format `{format}` does not suit {path}: the end of a prompt and the beginning of an answer \
         become one token",
        path = .path.display()
    )]
    Joined {
        /// The format.
        format: String,
        /// The tokenizer.
        path: PathBuf,
    },
    /// Answers in tokens that decoding would never try, such as with a space before them that is not written.
    #[error(
        "the text format `{format}` does not suit {path}: the token that begins an answer is none with which the grammar \
         lets one begin; change the end of `query.between`",
        path = .path.display()
    )]
    Unknown {
        /// The format.
        format: String,
        /// The tokenizer.
        path: PathBuf,
    },
    /// An answer that would end where it goes on.
    #[error(
        "the text format `{format}` does not suit {path}: the token that ends an answer also stands within answers; \
         change the end of `query.end`",
        path = .path.display()
    )]
    EndInside {
        /// The format.
        format: String,
        /// The tokenizer.
        path: PathBuf,
    },
    /// More than one format that the tokenizer can spell.
    #[error(
        "{path} can write the text formats {formats}, and which of them the model was trained on is not to be seen; \
         say so by --set language.text_format=NAME or FILE.toml",
        path = .path.display(), formats = .formats.join(", ")
    )]
    Ambiguous {
        /// The formats.
        formats: Vec<String>,
        /// The tokenizer.
        path: PathBuf,
    },
    /// None.
    #[error("none of the text formats can be written with {path}:\n  {reasons}", path = .path.display(),
        reasons = .reasons.join("\n  "))]
    None {
        /// Why not, for each format.
        reasons: Vec<String>,
        /// The tokenizer.
        path: PathBuf,
    },
}

/// Writes tasks for one checkpoint.
#[derive(Debug)]
pub(super) struct Writer {
    tokenizer: Tokenizer,
    format: TextFormat,
    special: SpecialTokens,
    answers: Answers,
}

/// What decoding may write: the grammar of the format, in the checkpoint's tokens.
#[derive(Debug)]
pub(super) struct Answers {
    grammar: Grammar,
    /// How the grammar spells the tokens that can stand in an answer, by token.
    pieces: Vec<(u32, String)>,
    /// Tokens that end an answer.
    pub(super) ends: Vec<u32>,
}

/// A prompt, and the answers to it.
#[derive(Debug)]
pub(super) struct Prompt {
    /// Its tokens.
    pub(super) tokens: Vec<u32>,
    /// Demonstrations that had no room.
    pub(super) left_out: usize,
    input: Grid,
}

impl Answers {
    /// How far an answer's beginning has come, if it is one.
    fn beginning(&self, tokens: &[u32]) -> Option<Beginning> {
        let piece = |token: u32| {
            let at = self.pieces.binary_search_by_key(&token, |(token, _)| *token).ok()?;
            Some(self.pieces[at].1.as_str())
        };
        let step = |at, &token: &u32| self.grammar.advance(&at, piece(token)?);
        tokens.iter().try_fold(self.grammar.start(), step)
    }

    /// Whole rows of an answer's beginning.
    pub(super) fn n_rows(&self, tokens: &[u32]) -> usize {
        self.beginning(tokens).map_or(0, |at| self.grammar.n_rows(&at))
    }
}

impl TokenFilter for Answers {
    fn restrict(&self, generated: &[u32], allowed: &mut [bool]) {
        allowed.fill(false);
        let Some(at) = self.beginning(generated) else { return };
        for (token, piece) in &self.pieces {
            allowed[*token as usize] = self.grammar.advance(&at, piece).is_some();
        }
    }
}

impl Writer {
    /// For a format, or [`AUTO`] for the built-in one that the tokenizer can spell.
    pub(super) fn new(tokenizer: Tokenizer, format: &FormatChoice) -> Result<Self, WriterError> {
        match format {
            FormatChoice::Named(name) if name == AUTO => {}
            FormatChoice::Named(name) => {
                let format = TextFormat::built_in(name).expect("recipes are validated");
                return Self::with(&tokenizer, format);
            }
            FormatChoice::Own(format) => return Self::with(&tokenizer, (**format).clone()),
        }
        let (mut fitting, mut reasons) = (Vec::new(), Vec::new());
        for name in TextFormat::names() {
            let format = TextFormat::built_in(name).expect("its own names");
            if format.own_vocabulary && tokenizer.n_tokens() != CharVocabulary::of(&format).len() {
                reasons.push(format!("{name}: the vocabulary is not the format's own"));
                continue;
            }
            match Self::with(&tokenizer, format) {
                Ok(writer) => fitting.push(writer),
                Err(error) => reasons.push(format!("{name}: {error}")),
            }
        }
        let path = tokenizer.path().to_owned();
        match fitting.len() {
            0 => Err(WriterError::None { reasons, path }),
            1 => Ok(fitting.remove(0)),
            _ => {
                let formats = fitting.iter().map(|writer| writer.format.name.clone()).collect();
                Err(WriterError::Ambiguous { formats, path })
            }
        }
    }

    fn with(tokenizer: &Tokenizer, format: TextFormat) -> Result<Self, WriterError> {
        let special = SpecialTokens { bos: tokenizer.bos.clone(), eos: tokenizer.eos.clone() };
        check_special(tokenizer, &format, &special)?;
        let (samples, ends) = check_samples(tokenizer, &format, &special)?;
        let answers = Answers::new(tokenizer, &format, &special, ends);
        if samples.iter().any(|answer| answers.beginning(answer).is_none()) {
            let path = tokenizer.path().to_owned();
            return Err(WriterError::Unknown { format: format.name, path });
        }
        Ok(Self { tokenizer: tokenizer.clone(), format, special, answers })
    }

    /// The format's name.
    pub(super) fn format(&self) -> &str {
        &self.format.name
    }

    /// What decoding may write.
    pub(super) fn answers(&self) -> &Answers {
        &self.answers
    }

    /// The texts of an episode: each query's context and then its pair. A query that another begins with is no text of
    /// its own; its output is marked there.
    pub(super) fn sequences(&self, episode: &Episode) -> Result<Vec<Sequence>, WriterError> {
        self.paths(episode).iter().map(|path| self.sequence(episode, path)).collect()
    }

    /// The longest of an episode's texts, shortened until it fits: the longest pairs of its context go first. If its last
    /// pair alone does not fit either, the next longest, and so on; if no text can be shortened enough, the smallest last
    /// pair as an error.
    pub(super) fn shortened(
        &self,
        episode: &Episode,
        fits: &dyn Fn(&Sequence) -> bool,
    ) -> Result<Result<Sequence, Sequence>, WriterError> {
        let mut paths = self.paths(episode);
        let cells =
            |path: &Path| path.pairs.iter().map(|&i| episode.pairs[i].n_cells()).sum::<usize>();
        paths.sort_by_key(|path| Reverse(cells(path)));
        let mut least: Option<Sequence> = None;
        for mut path in paths {
            loop {
                let sequence = self.sequence(episode, &path)?;
                if fits(&sequence) {
                    return Ok(Ok(sequence));
                }
                let (_, context) = path.pairs.split_last().expect("a path has a target");
                let Some(longest) = longest(context.iter().map(|&i| &episode.pairs[i])) else {
                    let smaller = |s: &Sequence| sequence.tokens.len() < s.tokens.len();
                    if least.as_ref().is_none_or(smaller) {
                        least = Some(sequence);
                    }
                    break;
                };
                path.pairs.remove(longest);
                path.marked.remove(longest);
            }
        }
        Ok(Err(least.expect("an episode has a query")))
    }

    fn paths(&self, episode: &Episode) -> Vec<Path> {
        let whole = |q: &crate::dataset::Query| [q.context.as_slice(), &[q.target]].concat();
        let all: BTreeSet<Vec<usize>> = episode.queries.iter().map(whole).collect();
        let queries = episode.queries.iter().map(whole);
        let is_beginning = |path: &Vec<usize>| {
            all.iter().any(|other| other.len() > path.len() && other.starts_with(path))
        };
        let maximal = queries.filter(|path| !is_beginning(path));
        let marked =
            |pairs: &Vec<usize>| (0..pairs.len()).map(|j| all.contains(&pairs[..=j])).collect();
        maximal.map(|pairs| Path { marked: marked(&pairs), pairs }).collect()
    }

    fn sequence(&self, episode: &Episode, path: &Path) -> Result<Sequence, WriterError> {
        let pairs: Vec<Example> = path.pairs.iter().map(|&i| episode.pairs[i].clone()).collect();
        let (query, demonstrations) = pairs.split_last().expect("a path has a target");
        let written =
            self.format.write(demonstrations, &query.input, Some(&query.output), &self.special);
        let tokens = self.tokenizer.encode(&written.text)?;
        let spans = written.outputs.into_iter().zip(&path.marked);
        let spans: Vec<_> = spans.filter(|(_, marked)| **marked).map(|(span, _)| span).collect();
        let targets = target_tokens(&tokens.offsets, &spans);
        Ok(Sequence { tokens: tokens.ids, targets })
    }

    /// A prompt with as many demonstrations as leave room for an answer within `most` tokens: the longest go first, of
    /// equals the last.
    pub(super) fn prompt(
        &self,
        demonstrations: &[Example],
        input: &Grid,
        most: usize,
    ) -> Result<Prompt, WriterError> {
        // No side of the answer is likely to exceed all that was seen.
        let grids = demonstrations.iter().map(|e| &e.output).chain([input]);
        let (height, width) =
            grids.fold((1, 1), |(h, w), grid| (h.max(grid.height()), w.max(grid.width())));
        let mut kept = demonstrations.to_vec();
        loop {
            let prompt = Prompt {
                tokens: self.encode_prompt(&kept, input)?,
                left_out: demonstrations.len() - kept.len(),
                input: input.clone(),
            };
            let room = self.answer(&prompt, &Grid::filled(height, width, 0))?.len();
            let Some(longest) = longest(kept.iter()).filter(|_| prompt.tokens.len() + room > most)
            else {
                return Ok(prompt);
            };
            kept.remove(longest);
        }
    }

    fn encode_prompt(
        &self,
        demonstrations: &[Example],
        input: &Grid,
    ) -> Result<Vec<u32>, WriterError> {
        let text = self.format.write(demonstrations, input, None, &self.special).text;
        Ok(self.tokenizer.encode(&text)?.ids)
    }

    /// The tokens of an answer behind a prompt, its end included.
    pub(super) fn answer(&self, prompt: &Prompt, output: &Grid) -> Result<Vec<u32>, WriterError> {
        // Behind the shortest prompt: which tokens an answer becomes depends on nothing farther back.
        let short = self.format.write(&[], &prompt.input, None, &self.special).text;
        let whole = self.format.write(&[], &prompt.input, Some(output), &self.special).text;
        let n_prompt = self.tokenizer.encode(&short)?.ids.len();
        Ok(self.tokenizer.encode(&whole)?.ids.split_off(n_prompt))
    }

    /// The grid that an answer's tokens spell, if they do.
    pub(super) fn read(&self, answer: &[u32]) -> Option<Grid> {
        let text = self.tokenizer.decode(answer);
        self.format.parse_answer(&text, &self.special).ok()
    }
}

/// A text of an episode: its pairs in order, and of which the outputs are marked.
struct Path {
    pairs: Vec<usize>,
    marked: Vec<bool>,
}

/// Which pair has the most cells; of equals the last.
fn longest<'a>(pairs: impl Iterator<Item = &'a Example>) -> Option<usize> {
    pairs.enumerate().max_by_key(|(_, pair)| pair.n_cells()).map(|(i, _)| i)
}

/// All texts of a format, with what they are.
fn parts(format: &TextFormat) -> Vec<(String, &str)> {
    let grid = &format.grid;
    let mut parts: Vec<(String, &str)> = grid
        .cells
        .iter()
        .enumerate()
        .map(|(color, text)| (format!("color {color}"), text.as_str()))
        .collect();
    let named = [
        ("the beginning of a grid", &grid.open),
        ("what stands between cells", &grid.between_cells),
        ("what stands between rows", &grid.between_rows),
        ("the end of a grid", &grid.close),
        ("the beginning of a text", &format.prologue),
    ];
    parts.extend(named.map(|(what, text)| (what.to_owned(), text.as_str())));
    for (pair, around) in [("demonstration", &format.demonstration), ("test", &format.query)] {
        let named = [
            ("the beginning of a", &around.before),
            ("the middle of a", &around.between),
            ("the end of a", &around.end),
            ("what stands behind a", &around.separator),
        ];
        parts.extend(named.map(|(what, text)| (format!("{what} {pair}"), text.as_str())));
    }
    parts
}

/// Checks that the tokens that a format names are tokens.
fn check_special(
    tokenizer: &Tokenizer,
    format: &TextFormat,
    special: &SpecialTokens,
) -> Result<(), WriterError> {
    let missing = |token: &str| WriterError::Special {
        format: format.name.clone(),
        token: token.to_owned(),
        path: tokenizer.path().to_owned(),
    };
    for (_, text) in parts(format) {
        for (name, own) in [("{bos}", &special.bos), ("{eos}", &special.eos)] {
            if text.contains(name) && tokenizer.token(own).is_none() {
                return Err(missing(name));
            }
        }
        // `<|…|>`, as the chat formats write their tokens.
        let mut rest = text;
        while let Some(start) = rest.find("<|") {
            let Some(length) = rest[start..].find("|>") else { break };
            let token = &rest[start..start + length + 2];
            if tokenizer.token(token).is_none() {
                return Err(missing(token));
            }
            rest = &rest[start + length + 2..];
        }
    }
    Ok(())
}

/// Checks that tasks can be spelt, and gives some answers and the tokens that end one.
fn check_samples(
    tokenizer: &Tokenizer,
    format: &TextFormat,
    special: &SpecialTokens,
) -> Result<(Vec<Vec<u32>>, Vec<u32>), WriterError> {
    let path = || tokenizer.path().to_owned();
    let grid = Grid::from_fn(2, N_COLORS, |r, c| ((c + 3 * r) % N_COLORS) as u8);
    let turned = Grid::from_fn(N_COLORS, 2, |r, c| ((r + c) % N_COLORS) as u8);
    let demonstrations = [
        Example { input: grid.clone(), output: turned.clone() },
        Example { input: turned, output: grid.clone() },
    ];
    let (mut samples, mut ends, mut inside) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for color in 0..N_COLORS as u8 {
        for output in [Grid::filled(1, 1, color), Grid::filled(2, 2, color)] {
            let prompt = format.write(&demonstrations, &grid, None, special).text;
            let whole = format.write(&demonstrations, &grid, Some(&output), special).text;
            let (prompt, whole) = match (tokenizer.encode(&prompt), tokenizer.encode(&whole)) {
                (Ok(prompt), Ok(whole)) => (prompt.ids, whole.ids),
                (Err(error), _) | (_, Err(error)) => {
                    return Err(unwritable(tokenizer, format, special, error));
                }
            };
            if !whole.starts_with(&prompt) || whole.len() == prompt.len() {
                return Err(WriterError::Joined { format: format.name.clone(), path: path() });
            }
            let answer = whole[prompt.len()..].to_vec();
            let (last, before) = answer.split_last().expect("it is longer");
            ends.insert(*last);
            inside.extend(before.iter().copied());
            samples.push(answer);
        }
    }
    if !ends.is_disjoint(&inside) {
        return Err(WriterError::EndInside { format: format.name.clone(), path: path() });
    }
    Ok((samples, ends.into_iter().collect()))
}

/// The first part of a format that cannot be spelt, as an error; or else the error that there was.
fn unwritable(
    tokenizer: &Tokenizer,
    format: &TextFormat,
    special: &SpecialTokens,
    error: TokenizerError,
) -> WriterError {
    let fill = |text: &str| text.replace("{bos}", &special.bos).replace("{eos}", &special.eos);
    let lost = parts(format).into_iter().find_map(|(what, text)| {
        let text = fill(text).replace("{number}", "1");
        tokenizer.encode(&text).is_err().then_some((what, text))
    });
    match lost {
        Some((what, text)) => {
            let (format, path) = (format.name.clone(), tokenizer.path().to_owned());
            WriterError::Unwritable { format, what, text, path }
        }
        None => error.into(),
    }
}

impl Answers {
    fn new(
        tokenizer: &Tokenizer,
        format: &TextFormat,
        special: &SpecialTokens,
        ends: Vec<u32>,
    ) -> Self {
        // Tokens that are always whole must not be spelt by others: the grammar gets a character of its own for each.
        let whole = tokenizer.whole_tokens();
        let mut letters: Vec<(&str, String)> = whole
            .iter()
            .filter(|(text, _)| text.chars().count() > 1)
            .enumerate()
            .filter_map(|(i, (text, _))| {
                Some((text.as_str(), char::from_u32(0xF_0000 + i as u32)?.into()))
            })
            .collect();
        letters.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        let spelling = |text: &str| {
            letters
                .iter()
                .fold(text.to_owned(), |text, (token, letter)| text.replace(token, letter))
        };
        let grammar = Grammar::new(format, special, spelling);
        let pieces = tokenizer.pieces(&format.grid.cells[0]).into_iter().enumerate();
        let pieces = pieces.map(|(token, piece)| (token as u32, spelling(&piece)));
        let pieces = pieces.filter(|(_, piece)| grammar.may_contain(piece)).collect();
        Self { grammar, pieces, ends }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::Rng;
    use serde_json::{Value, json};

    use super::*;
    use crate::arc::strategies::{example, grid};
    use crate::dataset::Query;
    use crate::llama::{LlamaConfig, write_tokenizer};

    fn writer() -> Writer {
        let folder = tempfile::tempdir().unwrap();
        write_tokenizer(folder.path()).unwrap();
        Writer::new(Tokenizer::load(folder.path(), &config(16)).unwrap(), &AUTO.into()).unwrap()
    }

    fn config(vocab_size: usize) -> LlamaConfig {
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "vocab_size": vocab_size, "hidden_size": 8,
            "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 1e4,
        });
        LlamaConfig::parse(&config.to_string(), std::path::Path::new("config.json")).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn answers_come_back_and_every_token_of_them_is_allowed(
            shown in prop::collection::vec(example(5), 0..3),
            input in grid(5),
            output in grid(30),
        ) {
            let writer = writer();
            let prompt = writer.prompt(&shown, &input, usize::MAX).unwrap();
            let answer = writer.answer(&prompt, &output).unwrap();
            prop_assert_eq!(writer.read(&answer), Some(output.clone()));
            prop_assert_eq!(writer.read(&answer[..answer.len() - 1]), None);
            for n in [0, 1, answer.len() / 2, answer.len() - 1] {
                let mut allowed = vec![true; 16];
                writer.answers().restrict(&answer[..n], &mut allowed);
                prop_assert!(allowed[answer[n] as usize]);
                prop_assert!(!allowed[11] && !allowed[13] && !allowed[15]);
            }
            prop_assert_eq!(&writer.answers().ends, &[12]);
            // Behind the prompt stands what is written as a whole.
            let pair = Example { input, output };
            let pairs = [shown.clone(), vec![pair]].concat();
            let queries = vec![Query { target: shown.len(), context: (0..shown.len()).collect() }];
            let episode = Episode { pairs, queries, frame: None };
            let sequence = writer.sequences(&episode).unwrap().remove(0);
            prop_assert_eq!(&sequence.tokens, &[prompt.tokens.clone(), answer.clone()].concat());
            let marked: Vec<bool> = (0..sequence.tokens.len()).map(|i| i >= prompt.tokens.len()).collect();
            prop_assert_eq!(&sequence.targets, &marked);
        }
    }

    fn pair(n: usize) -> Example {
        Example { input: Grid::filled(1, n, 1), output: Grid::filled(n, 1, 2) }
    }

    fn query(target: usize, context: &[usize]) -> Query {
        Query { target, context: context.to_vec() }
    }

    #[test]
    fn queries_that_begin_another_s_text_are_marked_in_it() {
        let writer = writer();
        let pairs = vec![pair(1), pair(2), pair(3)];
        let queries = vec![query(2, &[0, 1]), query(1, &[0]), query(0, &[1])];
        let episode = Episode { pairs, queries, frame: None };
        let sequences = writer.sequences(&episode).unwrap();
        let marked = |s: &Sequence| {
            let marked = s.tokens.iter().zip(&s.targets).filter(|(_, target)| **target);
            marked.map(|(&token, _)| token).collect::<Vec<_>>()
        };
        // Two rows and their end, three rows and theirs; then one row after the pair of two.
        assert_eq!(sequences.len(), 2);
        assert_eq!(marked(&sequences[0]), [2, 10, 2, 12, 2, 10, 2, 10, 2, 12]);
        assert_eq!(marked(&sequences[1]), [2, 12]);
    }

    #[test]
    fn what_does_not_fit_loses_its_longest_pairs_first() {
        let writer = writer();
        let demonstrations = [pair(2), pair(9), pair(3), pair(9)];
        let input = Grid::filled(1, 2, 1);
        let prompt = |most: usize| writer.prompt(&demonstrations, &input, most).unwrap();
        let all = prompt(usize::MAX);
        assert_eq!(all.left_out, 0);
        let one_less = prompt(all.tokens.len());
        assert_eq!(one_less.left_out, 1);
        let without = writer.prompt(&[pair(2), pair(9), pair(3)], &input, usize::MAX).unwrap();
        assert_eq!(one_less.tokens, without.tokens);
        assert_eq!(prompt(1).left_out, 4);

        let queries = vec![query(0, &[1, 2, 3])];
        let episode = Episode { pairs: demonstrations.to_vec(), queries, frame: None };
        let whole = writer.sequences(&episode).unwrap().remove(0).tokens.len();
        let shortened = |most: usize| {
            writer.shortened(&episode, &|s: &Sequence| s.tokens.len() <= most).unwrap()
        };
        let shorter = shortened(whole - 1).unwrap();
        assert!(shorter.tokens.len() < whole && shorter.targets.last() == Some(&true));
        // Three for the user, ten and four more, and two rows.
        let alone = shortened(3).unwrap_err();
        assert_eq!(alone.tokens.len(), 3 + 2 + 4 + 3 + 1);
    }

    #[test]
    fn of_several_texts_the_longest_is_shortened_and_another_if_its_pair_does_not_fit() {
        let writer = writer();
        let pairs = vec![pair(2), pair(9), pair(3)];
        let queries = vec![query(0, &[2]), query(1, &[0, 2])];
        let episode = Episode { pairs, queries, frame: None };
        let lengths = |path: usize| writer.sequences(&episode).unwrap()[path].tokens.len();
        let shortened = |most: usize| {
            writer.shortened(&episode, &|s: &Sequence| s.tokens.len() <= most).unwrap()
        };
        // The longer text, though it stands behind the other.
        assert_eq!(shortened(usize::MAX).unwrap().tokens.len(), lengths(1));
        // Where its pair of nine rows does not fit, the other does.
        let large = writer.sequences(&Episode { queries: vec![query(1, &[])], ..episode.clone() });
        let most = large.unwrap()[0].tokens.len() - 1;
        assert_eq!(shortened(most).unwrap().tokens.len(), lengths(0));
        assert_eq!(shortened(3).unwrap_err().tokens.len(), 3 + 2 + 4 + 3 + 1);
    }

    /// A tokenizer that knows every character, and the tokens of Llama 3's chat.
    fn chat_tokenizer(special: &[&str]) -> Tokenizer {
        let all: Vec<String> = (10..127_u8).map(|c| char::from(c).to_string()).collect();
        bpe(&all, &[], special, json!({"decoder": {"type": "Fuse"}}))
    }

    /// Byte-pair encoding of some units, the pairs that become one token, special tokens behind them, and what prepares
    /// and undoes it.
    fn bpe(
        units: &[String],
        merges: &[(&str, &str)],
        special: &[&str],
        around: Value,
    ) -> Tokenizer {
        let merged = merges.iter().map(|(a, b)| format!("{a}{b}"));
        let special = special.iter().map(|token| (*token).to_owned());
        let all: Vec<String> = units.iter().cloned().chain(merged).chain(special.clone()).collect();
        let vocab: serde_json::Map<String, Value> =
            all.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
        let added = special.map(|token| {
            json!({
                "id": vocab[&token], "content": token, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            })
        });
        let added: Vec<Value> = added.collect();
        let mut tokenizer = around;
        tokenizer["version"] = "1.0".into();
        tokenizer["added_tokens"] = added.into();
        let byte_fallback = units.iter().any(|unit| unit == "<0x0A>");
        tokenizer["model"] = json!({
            "type": "BPE", "vocab": vocab, "merges": merges, "byte_fallback": byte_fallback,
            "ignore_merges": merges.is_empty(),
        });
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, value: &Value| {
            std::fs::write(folder.path().join(name), value.to_string()).unwrap();
        };
        write("tokenizer.json", &tokenizer);
        let settings = json!({"bos_token": {"content": "<s>"}, "eos_token": "</s>"});
        write("tokenizer_config.json", &settings);
        Tokenizer::load(folder.path(), &config(all.len())).unwrap()
    }

    /// How a byte-level tokenizer writes each byte.
    fn byte_letters() -> Vec<String> {
        let shown = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
        let mut others = 256..;
        let letter = |byte| if shown(byte) { byte } else { others.next().unwrap() };
        (0..256).map(letter).map(|c| char::from_u32(c).unwrap().to_string()).collect()
    }

    /// Pairs of the kind that byte-level vocabularies hold: runs of digits, brackets, ends of lines, words.
    const MERGES: [(&str, &str); 19] = [
        ("0", "0"),
        ("00", "0"),
        ("1", "2"),
        ("Ġ", "1"),
        ("Ġ", "0"),
        ("[", "["),
        ("]", "]"),
        ("]]", "#"),
        ("]", "Ċ"),
        ("Ġ", "["),
        ("Ċ", "Ċ"),
        ("ĊĊ", "Ċ"),
        ("+", "/"),
        ("-", "="),
        ("+/", "-="),
        ("l", "a"),
        ("B", "la"),
        ("c", "k"),
        ("Bla", "ck"),
    ];

    /// Llama 3's, Qwen's and GPT-2's ways to cut a text before pairs are merged.
    const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const QWEN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const GPT_2: &str =
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

    fn byte_level(
        cut: &str,
        units: &[String],
        merges: &[(&str, &str)],
        special: &[&str],
    ) -> Tokenizer {
        let bytes = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
        });
        let cut = json!({
            "type": "Split", "pattern": {"Regex": cut}, "behavior": "Isolated", "invert": false,
        });
        let cut = json!({"type": "Sequence", "pretokenizers": [cut, bytes]});
        bpe(units, merges, special, json!({"pre_tokenizer": cut, "decoder": bytes}))
    }

    /// In the manner of sentencepiece: `▁` for a space, bytes for what has no token, a space before a text, or before each
    /// run of it between special tokens, as older ones have it.
    fn metaspace(before_each_run: bool) -> Tokenizer {
        let characters = (33..127_u8).map(|c| char::from(c).to_string());
        let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
        let units: Vec<String> = bytes.chain(["▁".to_owned()]).chain(characters).collect();
        let merges = [("▁", "["), ("[", "["), ("]", "]"), ("]]", "#"), ("▁", "1"), ("▁", "A")];
        let space = json!({"String": " "});
        let steps = json!([
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]);
        let mut around = json!({"decoder": {"type": "Sequence", "decoders": steps}});
        if before_each_run {
            let replace = json!({"type": "Replace", "pattern": space, "content": "▁"});
            let prepend = json!({"type": "Prepend", "prepend": "▁"});
            around["normalizer"] = json!({"type": "Sequence", "normalizers": [prepend, replace]});
        } else {
            around["pre_tokenizer"] = json!({
                "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false,
            });
        }
        bpe(&units, &merges, &LLAMA, around)
    }

    /// A vocabulary that was cut to 64 tokens for the ARChitects' format. What has no parts is one token as a whole.
    fn pruned() -> Tokenizer {
        let letters = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjklmnpqrstuvwxyzIO0123456789Ċ";
        let mut units: Vec<String> = letters.chars().map(String::from).collect();
        units.push("+/-=".to_owned());
        byte_level(LLAMA_3, &units, &[], &LLAMA[..2])
    }

    /// Checks what decoding, scoring and learning rest on, for one tokenizer and one format.
    fn check_round_trip(what: &str, tokenizer: &Tokenizer, name: &str) {
        let writer = Writer::new(tokenizer.clone(), &name.into());
        let writer = writer.unwrap_or_else(|error| panic!("{what}, {name}: {error}"));
        let what = format!("{what}, {name}");
        let vocab = tokenizer.n_tokens();
        let mut rng = crate::rng::stream(5, "test", &what, 0);
        let mut draw = |height: usize, width: usize, n_colors: u8| {
            let cells = (0..height * width).map(|_| rng.random_range(0..n_colors)).collect();
            Grid::from_cells(height, width, cells).unwrap()
        };
        // Few colors, so that there are runs of zeros and pairs that merge; all of them; the smallest and the largest.
        let mut outputs = vec![draw(1, 1, 1), draw(1, 30, 1), draw(30, 1, 3), draw(30, 30, 2)];
        outputs.extend((0..6).map(|i| draw(2 + i, 7 - i, if i < 3 { 2 } else { 10 })));
        for output in outputs {
            let shown = [
                Example { input: draw(2, 3, 10), output: draw(3, 4, 2) },
                Example { input: draw(1, 5, 2), output: draw(2, 2, 10) },
            ];
            let input = draw(3, 3, 3);
            let prompt = writer.prompt(&shown, &input, usize::MAX).unwrap();
            let answer = writer.answer(&prompt, &output).unwrap();
            assert_eq!(writer.read(&answer), Some(output.clone()), "{what}");
            for n in 0..answer.len() {
                let mut allowed = vec![true; vocab];
                writer.answers().restrict(&answer[..n], &mut allowed);
                assert!(allowed[answer[n] as usize], "{what}: token {n} of {answer:?}");
                assert_eq!(writer.answers().ends.contains(&answer[n]), n + 1 == answer.len());
            }
            // All outputs are marked, and nothing else but what is one token with their ends.
            let pairs = [&shown[..], &[Example { input: input.clone(), output }]].concat();
            let queries = vec![query(0, &[]), query(1, &[0]), query(2, &[0, 1])];
            let episode = Episode { pairs: pairs.clone(), queries, frame: None };
            let sequence = writer.sequences(&episode).unwrap().remove(0);
            assert_eq!(sequence.tokens, [prompt.tokens, answer].concat(), "{what}");
            let written =
                writer.format.write(&shown, &input, Some(&pairs[2].output), &writer.special);
            let targets = sequence.tokens.iter().zip(&sequence.targets);
            let runs: Vec<(&u32, &bool)> = targets.collect();
            let runs = runs.chunk_by(|a, b| a.1 == b.1).filter(|run| *run[0].1);
            let spelt: Vec<String> = runs
                .map(|run| {
                    tokenizer.decode(&run.iter().map(|(token, _)| **token).collect::<Vec<_>>())
                })
                .collect();
            let expected: Vec<&str> =
                written.outputs.iter().map(|span| &written.text[span.clone()]).collect();
            assert_eq!(spelt.len(), expected.len(), "{what}: {spelt:?}");
            for (spelt, expected) in spelt.iter().zip(expected) {
                let more = spelt.strip_prefix(expected);
                assert!(more.is_some_and(|more| more.trim().is_empty()), "{what}: {spelt:?}");
            }
        }
        // A walk among the allowed tokens never gets stuck, and is read when it ends.
        for _ in 0..4 {
            let mut tokens: Vec<u32> = Vec::new();
            while tokens.last().is_none_or(|last| !writer.answers().ends.contains(last)) {
                let mut allowed = vec![true; vocab];
                writer.answers().restrict(&tokens, &mut allowed);
                let may: Vec<u32> = (0..vocab as u32).filter(|&t| allowed[t as usize]).collect();
                assert!(
                    !may.is_empty(),
                    "{what}: nothing may follow {:?}",
                    tokenizer.decode(&tokens)
                );
                tokens.push(may[rng.random_range(0..may.len())]);
            }
            assert!(writer.read(&tokens).is_some(), "{what}: {:?}", tokenizer.decode(&tokens));
        }
    }

    const CHAT: [&str; 7] = [
        "<s>",
        "</s>",
        "<|eot_id|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|im_start|>",
        "<|im_end|>",
    ];

    #[test]
    fn tokenizers_that_merge_write_every_format_and_read_it_back() {
        for (what, cut) in [("Llama 3", LLAMA_3), ("Qwen", QWEN), ("GPT-2", GPT_2)] {
            let tokenizer = byte_level(cut, &byte_letters(), &MERGES, &CHAT);
            for name in ["architects", "nvarc", "barc", "compact"] {
                check_round_trip(what, &tokenizer, name);
            }
            if cut != GPT_2 {
                check_round_trip(what, &tokenizer, "paper");
            }
        }
        // It cuts the two ends of lines before an answer in another way than those at the end of a prompt.
        let tokenizer = byte_level(GPT_2, &byte_letters(), &MERGES, &CHAT);
        let error = Writer::new(tokenizer, &"paper".into()).unwrap_err().to_string();
        assert!(error.contains("the end of a prompt and the beginning of an answer"), "{error}");
        // The pairs do merge: three cells are one token, or a cell and the space before it.
        let tokens = |cut: &str, text: &str| {
            byte_level(cut, &byte_letters(), &MERGES, &CHAT).encode(text).unwrap().ids.len()
        };
        assert_eq!(["000", "12\n", "0 1"].map(|text| tokens(LLAMA_3, text)), [1, 2, 3]);
        assert_eq!(["000", "12\n", "0 1"].map(|text| tokens(QWEN, text)), [3, 3, 3]);
        assert_eq!(["000", "12\n", "0 1"].map(|text| tokens(GPT_2, text)), [1, 2, 2]);
    }

    #[test]
    fn tokenizers_in_the_manner_of_sentencepiece_write_formats_and_read_them_back() {
        for before_each_run in [false, true] {
            let tokenizer = metaspace(before_each_run);
            let what = format!("a space before each run: {before_each_run}");
            for name in ["paper", "architects", "barc", "compact"] {
                check_round_trip(&what, &tokenizer, name);
            }
        }
        let tokens = |each: bool| metaspace(each).encode("<s>A1</s>").unwrap().ids.len();
        assert_eq!([false, true].map(tokens), [4, 4]);
        // An answer that would begin with a space which is not written is none that decoding could find.
        let mut format = TextFormat::built_in("architects").unwrap();
        (format.name, format.query.between) = ("mine".into(), "{eos}".into());
        let choice = FormatChoice::Own(Box::new(format));
        Writer::new(metaspace(false), &choice).unwrap();
        let error = Writer::new(metaspace(true), &choice).unwrap_err().to_string();
        assert!(error.contains("the token that begins an answer"), "{error}");
    }

    #[test]
    fn a_vocabulary_cut_to_64_tokens_writes_its_format_and_no_other() {
        let tokenizer = pruned();
        assert_eq!(tokenizer.n_tokens(), 64);
        check_round_trip("pruned", &tokenizer, "architects");
        assert_eq!(Writer::new(tokenizer.clone(), &AUTO.into()).unwrap().format(), "architects");
        let error = Writer::new(tokenizer, &"paper".into()).unwrap_err().to_string();
        assert!(error.contains("needs the special token <|start_header_id|>"), "{error}");
    }

    const LLAMA: [&str; 5] =
        ["<s>", "</s>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"];

    #[test]
    fn a_tokenizer_that_can_write_several_formats_leaves_the_choice_to_the_user() {
        let error = Writer::new(chat_tokenizer(&LLAMA), &AUTO.into()).unwrap_err().to_string();
        assert!(error.contains("can write the text formats paper, architects, barc"), "{error}");
        let error = Writer::new(chat_tokenizer(&LLAMA), &"nvarc".into()).unwrap_err().to_string();
        assert!(error.contains("needs the special token <|im_start|>"), "{error}");
        assert_eq!(
            Writer::new(chat_tokenizer(&LLAMA[..2]), &AUTO.into()).unwrap().format(),
            "architects"
        );
    }

    #[test]
    fn a_format_whose_answers_end_within_themselves_is_refused() {
        let mut format = TextFormat::built_in("architects").unwrap();
        (format.name, format.query.end) = ("mine".into(), "#\n".into());
        assert_eq!(format.check(), Ok(()));
        let choice = FormatChoice::Own(Box::new(format.clone()));
        let error = Writer::new(chat_tokenizer(&LLAMA), &choice).unwrap_err().to_string();
        assert!(error.contains("also stands within answers; change the end"), "{error}");
        format.query.end = "#".into();
        let writer = Writer::new(chat_tokenizer(&LLAMA), &FormatChoice::Own(Box::new(format)));
        assert_eq!(writer.unwrap().format(), "mine");
    }

    #[test]
    fn a_special_token_is_never_spelt_by_others() {
        for name in ["paper", "barc", "architects"] {
            let writer = Writer::new(chat_tokenizer(&LLAMA), &name.into()).unwrap();
            let prompt = writer.prompt(&[pair(2)], &Grid::filled(1, 1, 3), usize::MAX).unwrap();
            let answer = writer.answer(&prompt, &Grid::filled(2, 3, 4)).unwrap();
            assert_eq!(writer.read(&answer), Some(Grid::filled(2, 3, 4)));
            assert_eq!(writer.answers().ends, [*answer.last().unwrap()], "{name}");
            let mut allowed = vec![true; 200];
            writer.answers().restrict(&answer[..answer.len() - 1], &mut allowed);
            let bracket = u32::from(b'<' - 10) as usize;
            assert!(allowed[*answer.last().unwrap() as usize] && !allowed[bracket], "{name}");
        }
    }
}
