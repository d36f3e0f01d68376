//! Grids and tasks → text, with the ranges that are to be predicted.

use std::ops::Range;

use super::format::{GridText, PairText, TextFormat};
use crate::arc::{Example, Grid};

/// How the tokenizer spells its own tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpecialTokens {
    /// Begins a text; may be empty.
    pub bos: String,
    /// Ends a text; may be empty.
    pub eos: String,
}

/// A task as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// All of it.
    pub text: String,
    /// Where the outputs stand, in bytes, each with the end behind it: the demonstrations' in their order, and the
    /// test's if it was written.
    pub outputs: Vec<Range<usize>>,
}

impl GridText {
    /// A grid as text.
    pub fn write(&self, grid: &Grid) -> String {
        let row = |row: &[u8]| {
            let cells: Vec<&str> =
                row.iter().map(|&color| self.cells[usize::from(color)].as_str()).collect();
            cells.join(&self.between_cells)
        };
        let rows: Vec<String> = grid.rows().map(row).collect();
        format!("{}{}{}", self.open, rows.join(&self.between_rows), self.close)
    }
}

impl TextFormat {
    /// Writes demonstrations and a test. Without its output the text ends where the output would begin: a prompt.
    pub fn write(
        &self,
        demonstrations: &[Example],
        input: &Grid,
        output: Option<&Grid>,
        special: &SpecialTokens,
    ) -> Written {
        let mut text = special.fill(&self.prologue);
        let mut outputs = Vec::with_capacity(demonstrations.len() + 1);
        let mut pair = |around: &PairText, number: usize, input: &Grid, output: Option<&Grid>| {
            let fill = |part: &str| special.fill(part).replace("{number}", &number.to_string());
            text += &fill(&around.before);
            text += &self.grid.write(input);
            text += &fill(&around.between);
            if let Some(output) = output {
                let start = text.len();
                text += &self.grid.write(output);
                text += &fill(&around.end);
                outputs.push(start..text.len());
            }
            // The separator goes between demonstrations only.
            if number > 0 && number < demonstrations.len() {
                text += &fill(&around.separator);
            }
        };
        for (i, example) in demonstrations.iter().enumerate() {
            pair(&self.demonstration, i + 1, &example.input, Some(&example.output));
        }
        pair(&self.query, 0, input, output);
        Written { text, outputs }
    }
}

impl SpecialTokens {
    pub(super) fn fill(&self, text: &str) -> String {
        text.replace("{bos}", &self.bos).replace("{eos}", &self.eos)
    }
}

/// For each token, whether it is to be predicted: whether it covers a byte of one of `spans`.
///
/// A tokenizer may merge the last character before an output with the output's first; that token cannot be
/// written without knowing the output, and so it counts.
///
/// # Example
/// ```
/// // "a -> [[1]]#" in four tokens, of which the third begins before the output.
/// let tokens = [(0, 1), (1, 4), (4, 7), (7, 11)];
/// assert_eq!(arc_ttt::text::target_tokens(&tokens, &[5..11]), [false, false, true, true]);
/// ```
pub fn target_tokens(offsets: &[(usize, usize)], spans: &[Range<usize>]) -> Vec<bool> {
    let covers = |&(from, to): &(usize, usize)| spans.iter().any(|s| from < s.end && s.start < to);
    offsets.iter().map(covers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> (Vec<Example>, Grid, Grid) {
        let grid = |rows: &[&[u8]]| Grid::from_rows(rows).unwrap();
        let demonstrations = vec![
            Example { input: grid(&[&[0, 1], &[2, 3]]), output: grid(&[&[3, 2]]) },
            Example { input: grid(&[&[4]]), output: grid(&[&[5], &[6]]) },
        ];
        (demonstrations, grid(&[&[7, 8]]), grid(&[&[9]]))
    }

    fn written(name: &str) -> Written {
        let (demonstrations, input, output) = task();
        let special = SpecialTokens { bos: "<s>".into(), eos: "</s>".into() };
        let format = TextFormat::built_in(name).unwrap();
        let prompt = format.write(&demonstrations, &input, None, &special);
        let whole = format.write(&demonstrations, &input, Some(&output), &special);
        assert!(whole.text.starts_with(&prompt.text));
        assert_eq!(prompt.text.len(), whole.outputs[2].start);
        assert_eq!(prompt.outputs, whole.outputs[..2]);
        whole
    }

    #[test]
    fn formats_are_written_as_their_systems_write_them() {
        let check = |name: &str, ends: &str, outputs: [&str; 3]| {
            let written = written(name);
            assert!(written.text.ends_with(ends), "{:?}", written.text);
            let found = written.outputs.iter().map(|range| &written.text[range.clone()]);
            assert_eq!(found.collect::<Vec<_>>(), outputs, "{name}");
        };
        check(
            "paper",
            "as python arrays:\n[[0 1]\n [2 3]] -> [[3 2]]#\n[[4]] -> [[5]\n [6]]#<|eot_id|><|start_header_id|>\
             user<|end_header_id|>\n\n[[7 8]] -><|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n\
             [[9]]#<|eot_id|>",
            ["[[3 2]]#", "[[5]\n [6]]#", "[[9]]#<|eot_id|>"],
        );
        check(
            "architects",
            "<s>ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjklmnpqrstuvwxyzI01\n23\n+/-=O32\n</s>I4\n+/-=O5\n6\n</s>\
             I78\n+/-=O9\n</s>",
            ["32\n</s>", "5\n6\n</s>", "9\n</s>"],
        );
        let turn = "<|im_end|><|im_start|>assistant\n";
        let user = "<|im_start|>user\n";
        check(
            "nvarc",
            &format!(
                "{user}01\n23{turn}32<|im_end|>{user}4{turn}5\n6<|im_end|>{user}78{turn}9<|im_end|>"
            ),
            ["32<|im_end|>", "5\n6<|im_end|>", "9<|im_end|>"],
        );
        check(
            "barc",
            "Example 1:\nInput:\nBlack Blue\nRed Green\n\nOutput:\nGreen Red\nExample 2:\nInput:\nYellow\n\nOutput:\n\
             Gray\nPink\n\n\nHere is the input grid for the test example:\nInput:\nOrange Purple\n\n\nDirectly provide \
             the output grids corresponding to the given test input grids, based on the patterns observed in the \
             reference examples.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nThe output grid for the \
             test input grid is:\n\n```\nBrown\n```<|eot_id|>",
            ["Green Red\n", "Gray\nPink\n", "Brown\n```<|eot_id|>"],
        );
    }

    #[test]
    fn texts_begin_with_the_tokenizer_s_own_token_where_the_system_has_one() {
        for (name, begins) in [("paper", "<s><|start"), ("architects", "<s>ABC"), ("barc", "<s><|")]
        {
            assert!(written(name).text.starts_with(begins), "{name}");
        }
        assert!(written("nvarc").text.starts_with("<|im_start|>user"));
    }
}
