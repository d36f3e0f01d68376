//! What may follow a beginning of an answer.

use super::format::TextFormat;
use super::write::SpecialTokens;
use crate::arc::{MAX_SIDE, N_COLORS};

/// The answers of a format: grids with equal rows, at most 30×30, with the query's end behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grammar {
    open: String,
    cells: [String; N_COLORS],
    between_cells: String,
    between_rows: String,
    end: String,
}

/// How far a text has come on its way to an answer: every way in which it can be read. Texts that are read alike
/// are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beginning(Vec<State>);

/// One way to read a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    /// Rows that are whole.
    rows: usize,
    /// Cells of each of them.
    width: usize,
    /// Whole cells of the row under way.
    cells: usize,
    /// What is being written.
    part: Part,
    /// Bytes of it that stand there.
    at: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Open,
    Cell(usize),
    BetweenCells,
    BetweenRows,
    End,
    Nothing,
}

impl Grammar {
    /// The grammar of a format's answers. `spelling` gives each of its texts as tokens spell it.
    pub fn new(
        format: &TextFormat,
        special: &SpecialTokens,
        spelling: impl Fn(&str) -> String,
    ) -> Self {
        let grid = &format.grid;
        Self {
            open: spelling(&grid.open),
            cells: grid.cells.each_ref().map(|cell| spelling(cell)),
            between_cells: spelling(&grid.between_cells),
            between_rows: spelling(&grid.between_rows),
            end: spelling(&format!("{}{}", grid.close, special.fill(&format.query.end))),
        }
    }

    /// Whether a text could stand somewhere in an answer, as far as its characters tell.
    pub fn may_contain(&self, text: &str) -> bool {
        let parts = [&self.open, &self.between_cells, &self.between_rows, &self.end];
        let all = || parts.into_iter().chain(&self.cells);
        !text.is_empty() && text.chars().all(|c| all().any(|part| part.contains(c)))
    }

    /// Before the first character.
    pub fn start(&self) -> Beginning {
        let mut states = Vec::new();
        self.enter(State { rows: 0, width: 0, cells: 0, part: Part::Open, at: 0 }, &mut states);
        Beginning(states)
    }

    /// A beginning with `text` behind it, or `None` if no answer begins so.
    pub fn advance(&self, beginning: &Beginning, text: &str) -> Option<Beginning> {
        let mut states = beginning.0.clone();
        for byte in text.bytes() {
            let mut next = Vec::with_capacity(states.len());
            for state in states {
                if self.text(state.part).as_bytes().get(state.at) == Some(&byte) {
                    self.enter(State { at: state.at + 1, ..state }, &mut next);
                }
            }
            if next.is_empty() {
                return None;
            }
            states = next;
        }
        Some(Beginning(states))
    }

    /// Whether a beginning is an answer.
    pub fn is_whole(&self, beginning: &Beginning) -> bool {
        beginning.0.iter().any(|state| state.part == Part::Nothing)
    }

    /// Rows of a beginning behind which another has begun.
    pub fn n_rows(&self, beginning: &Beginning) -> usize {
        beginning.0.iter().map(|state| state.rows).max().unwrap_or(0)
    }

    fn text(&self, part: Part) -> &str {
        match part {
            Part::Open => &self.open,
            Part::Cell(color) => &self.cells[color],
            Part::BetweenCells => &self.between_cells,
            Part::BetweenRows => &self.between_rows,
            Part::End => &self.end,
            Part::Nothing => "",
        }
    }

    /// Adds a state, or what follows it if its part is whole.
    fn enter(&self, state: State, into: &mut Vec<State>) {
        if state.part == Part::Nothing || state.at < self.text(state.part).len() {
            into.push(state);
            return;
        }
        let mut then = |state: State, part: Part| self.enter(State { part, at: 0, ..state }, into);
        match state.part {
            Part::Open | Part::BetweenCells => {
                (0..N_COLORS).for_each(|color| then(state, Part::Cell(color)));
            }
            Part::BetweenRows => {
                let row = State { rows: state.rows + 1, width: state.cells, cells: 0, ..state };
                (0..N_COLORS).for_each(|color| then(row, Part::Cell(color)));
            }
            Part::Cell(_) => {
                let state = State { cells: state.cells + 1, ..state };
                let first_row = state.rows == 0;
                if state.cells < if first_row { MAX_SIDE } else { state.width } {
                    then(state, Part::BetweenCells);
                }
                if first_row || state.cells == state.width {
                    if state.rows + 1 < MAX_SIDE {
                        then(state, Part::BetweenRows);
                    }
                    then(state, Part::End);
                }
            }
            Part::End => then(state, Part::Nothing),
            Part::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arc::strategies::grid;

    fn grammar(name: &str) -> (Grammar, TextFormat, SpecialTokens) {
        let special = SpecialTokens { bos: "<s>".into(), eos: "</s>".into() };
        let format = TextFormat::built_in(name).unwrap();
        (Grammar::new(&format, &special, str::to_owned), format, special)
    }

    proptest! {
        #[test]
        fn every_answer_is_reached_in_any_pieces_and_ends_where_it_ends(
            grid in grid(30),
            cut in 0.0..1.0f64,
        ) {
            for name in TextFormat::names() {
                let (grammar, format, special) = grammar(name);
                let written = format.write(&[], &grid, Some(&grid), &special);
                let answer = &written.text[written.outputs[0].clone()];
                let (a, b) = answer.split_at((answer.len() as f64 * cut) as usize);
                let half = grammar.advance(&grammar.start(), a).unwrap();
                prop_assert!(!grammar.is_whole(&half));
                let whole = grammar.advance(&half, b).unwrap();
                prop_assert!(grammar.is_whole(&whole));
                prop_assert_eq!(grammar.advance(&whole, "0"), None);
                prop_assert!(grammar.may_contain(answer));
            }
        }

        /// A random walk through what the grammar allows ends in a text that the parser takes.
        #[test]
        fn what_the_grammar_lets_through_is_an_answer(choices in prop::collection::vec(any::<u16>(), 400)) {
            for name in TextFormat::names() {
                let (grammar, format, special) = grammar(name);
                let mut text = String::new();
                let mut at = grammar.start();
                for &choice in &choices {
                    if grammar.is_whole(&at) {
                        break;
                    }
                    let next: Vec<u8> = (10..127)
                        .filter(|&c| grammar.advance(&at, &char::from(c).to_string()).is_some())
                        .collect();
                    // Ends are rare among cells; they are taken where there is a choice.
                    let c = char::from(next[usize::from(choice) % next.len()]);
                    at = grammar.advance(&at, &c.to_string()).unwrap();
                    text.push(c);
                }
                if grammar.is_whole(&at) {
                    prop_assert!(format.parse_answer(&text, &special).is_ok(), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn rows_are_equal_and_at_most_thirty() {
        let (grammar, ..) = grammar("architects");
        let may = |text: &str, next: &str| {
            let at = grammar.advance(&grammar.start(), text).unwrap();
            grammar.advance(&at, next).is_some()
        };
        assert!(may("12\n3", "4") && !may("12\n3", "\n") && !may("12\n34", "5"));
        assert!(may("12\n34", "\n<") && may("12\n34\n", "5") && !may("12\n34\n", "\n"));
        assert!(may(&"1".repeat(29), "1") && !may(&"1".repeat(30), "1"));
        assert!(may(&"1\n".repeat(29), "1") && may(&"1\n".repeat(30), "<"));
        assert!(!may(&"1\n".repeat(30), "1"));
        assert!(!may("", "\n") && !may("", "a"));
        assert!(
            grammar.may_contain("<1\n") && !grammar.may_contain("a") && !grammar.may_contain("")
        );
    }
}
